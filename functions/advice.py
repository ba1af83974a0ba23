"""Short advice on recycling, rooms and pets: what the read-only functions answer without a network.

In: the arguments of a call and the language of the request. Out: one or two sentences in it. General hints only; local
rules and a vet know better, and the texts say so.
"""

from __future__ import annotations

from octopus.core import Language

_RECYCLING = {
    "plastic": (
        "rinse it and put it with plastic packaging; no foam or film",
        "冲洗干净后投入可回收物；泡沫和薄膜除外",
    ),
    "paper": ("keep it dry and clean and put it in the paper bin", "保持干燥清洁，投入废纸类可回收物"),
    "cardboard": (
        "flatten it, take off tape and food, put it in the paper bin",
        "去掉胶带和食物残渣，压平后投入可回收物",
    ),
    "glass": ("rinse it, take the lid off, put it in the glass bank", "冲洗干净、取下盖子，投入玻璃回收箱"),
    "metal": ("empty and rinse it, put it with metal packaging", "倒空冲洗后投入金属类可回收物"),
    "organic": ("put it in the food-waste bin or on the compost", "投入厨余（湿）垃圾或堆肥"),
    "textile": ("give it away if it is still good, otherwise use a clothing bank", "还能用就捐赠，否则投入旧衣回收箱"),
    "wood": ("bring larger or treated wood to the recycling centre", "较大或上过漆的木料送到回收站"),
    "electronic": (
        "never in the household bin: take it to a shop or centre that collects electronics",
        "不要混入生活垃圾，送到电子废物回收点",
    ),
    "other": (
        "ask your recycling centre; batteries, medicine and paint are hazardous waste",
        "请咨询回收站；电池、药品和油漆属于有害垃圾",
    ),
}

_ROOMS = {
    "bedroom": ("calm colours, warm dimmable light, storage under the bed", "用柔和的颜色和可调暖光，床下做收纳"),
    "kitchen": (
        "light on the worktop, short ways between sink, stove and fridge",
        "台面加灯，缩短水槽、灶台和冰箱之间的距离",
    ),
    "bathroom": ("moisture-proof materials, one large mirror, closed storage", "选防潮材料，一面大镜子，封闭式收纳"),
    "living room": ("arrange the seats around one focus, three layers of light", "座位围绕一个中心摆放，灯光分三层"),
    "dining room": (
        "hang the lamp low over the table, leave 80 cm behind each chair",
        "吊灯低挂在餐桌上方，椅子后留 80 厘米",
    ),
    "office": ("desk beside the window, a good chair, cables out of sight", "书桌靠窗侧放，配一把好椅子，线缆藏好"),
    "exterior": (
        "repeat two materials, plants of different heights, light the path",
        "重复使用两种材料，高低搭配植物，照亮小路",
    ),
    "other": (
        "start with light and one main colour, then clear what is not used",
        "先定灯光和一个主色，再清走不用的东西",
    ),
}

_ROOM_NAMES = {
    "bedroom": "卧室",
    "kitchen": "厨房",
    "bathroom": "浴室",
    "living room": "客厅",
    "dining room": "餐厅",
    "office": "书房",
    "exterior": "室外",
    "other": "其他空间",
}

_STYLE = ("look for {style} pieces first", "先从{style}的单品看起")
_PET = (
    "note what you see and since when, offer fresh water and rest; if it gets worse or lasts, call a vet",
    "记下症状和开始的时间，准备清水，让它休息；如果加重或持续，请联系兽医",
)
_PET_GENERAL = (
    "fresh water, suitable food, exercise and a yearly check at the vet",
    "清水、合适的食物、活动，每年去兽医处检查一次",
)


def recycling(material: str, language: Language) -> str:
    """Where a thing of this material goes."""
    return _in(language, _RECYCLING[material])


def interior(room: str, style: str, language: Language) -> str:
    """Where to begin with a room."""
    hint = _in(language, _ROOMS[room])
    if not style:
        return hint
    return _in(language, _STYLE).format(style=style) + _in(language, ("; ", "；")) + hint


def room_name(room: str, language: Language) -> str:
    """What the kind of room is called."""
    return _in(language, (room, _ROOM_NAMES[room]))


def pet(concern: str, language: Language) -> str:
    """What to do first about a pet's trouble, or in general."""
    return _in(language, _PET if concern else _PET_GENERAL)


def _in(language: Language, pair: tuple[str, str]) -> str:
    english, chinese = pair
    return chinese if language == "zh" else english
