"""One file per device that functions can act on; each fulfils octopus.device.Device."""
