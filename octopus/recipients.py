"""Nobody is guessed: a person in a plan who is not known, or is one of several, becomes a question.

In: a plan and a phone that knows the contacts. Out: the same plan, or one that asks who is meant. The answer goes the
way of all answers (answer.py).
"""

from __future__ import annotations

from dataclasses import replace

from octopus.core import Call, Channel, Language, Plan, language_of
from octopus.device import Device, Recipient
from octopus.registry import Registry

_ADDRESS: dict[Channel, tuple[str, str]] = {"email": ("e-mail address", "邮箱地址"), "number": ("number", "号码")}


def ask_who(plan: Plan, registry: Registry, phone: Device) -> Plan:
    """The plan with a question about the first person who cannot be reached as named."""
    if plan.question is not None:
        return plan
    language = language_of(plan.query.text if plan.query else "")
    for position, call in enumerate(plan.calls):
        for parameter in registry[call.name].parameters:
            value = call.arguments.get(parameter.name)
            if parameter.channel is None or not isinstance(value, str):
                continue
            recipient = phone.resolve(value, parameter.channel)
            if recipient.address is None:
                asking = Call(call.name, call.arguments, call.token, call.confidence, (parameter.name,))
                calls = (*plan.calls[:position], asking, *plan.calls[position + 1 :])
                return replace(plan, calls=calls, question=_question(recipient, parameter.channel, language))
    return plan


def _question(recipient: Recipient, channel: Channel, language: Language) -> str:
    address = _ADDRESS[channel][language == "zh"]
    if recipient.candidates:
        names = [contact.name for contact in recipient.candidates]
        if len(set(names)) < len(names):  # of the same name too: then only the address tells them apart
            names = [f"{c.name} ({getattr(c, channel) or c.number or c.email})" for c in recipient.candidates]
        if language == "zh":
            return f"哪一位{recipient.given}：{'、'.join(names[:-1])}还是{names[-1]}？"
        return f"Which {recipient.given}: {', '.join(names[:-1])} or {names[-1]}?"
    if recipient.contact is not None:
        name = recipient.contact.name
        if language == "zh":
            return f"通讯录里没有{name}的{address}，请告诉我。"
        return f"{name} has no {address} in the contacts. What is it?"
    if language == "zh":
        return f"通讯录里没有“{recipient.given}”，{address}是什么？"
    return f"{recipient.given} is not in the contacts. What is the {address}?"
