"""What people call their family in English and Chinese: "mum" and 老妈 are the same person.

In: a name. Out: the relations it can stand for. A general word stands for several ("grandma" for 奶奶 and for 外婆), a
special one only for its own.
"""

from __future__ import annotations

_KINDS: dict[str, str] = {
    "mother": "mom mum mommy mummy mama mamma mother ma 妈 妈妈 老妈 母亲 妈咪 娘 阿妈",
    "father": "dad daddy papa pa father 爸 爸爸 老爸 父亲 爹 爹地 阿爸 老爹",
    "father's mother": "奶奶 祖母 阿嬷 嫲嫲",
    "mother's mother": "外婆 姥姥 外祖母",
    "father's father": "爷爷 祖父",
    "mother's father": "外公 姥爷 外祖父",
    "wife": "wife 老婆 妻子 太太 媳妇 爱人",
    "husband": "husband 老公 丈夫 爱人",
    "son": "son 儿子",
    "daughter": "daughter 女儿 闺女",
    "elder brother": "哥 哥哥 老哥 大哥",
    "younger brother": "弟 弟弟 老弟",
    "elder sister": "姐 姐姐 老姐 大姐",
    "younger sister": "妹 妹妹 老妹",
    "uncle": "uncle",
    "aunt": "aunt auntie aunty",
    "boss": "boss manager 老板 上司 领导",
    "landlord": "landlord landlady 房东",
    "roommate": "roommate flatmate housemate 室友 舍友",
}
_GENERAL: dict[str, tuple[str, ...]] = {
    "grandma grandmother gran granny nan nana grandmom": ("father's mother", "mother's mother"),
    "grandpa grandfather grandad granddad gramps": ("father's father", "mother's father"),
    "parents 父母 爸妈": (),
    "brother bro 兄弟": ("elder brother", "younger brother"),
    "sister sis 姐妹": ("elder sister", "younger sister"),
    "partner spouse 对象 另一半": ("wife", "husband"),
}
_OF_WORD: dict[str, frozenset[str]] = {}
for _kind, _words in _KINDS.items():
    for _word in _words.split():
        _OF_WORD[_word] = _OF_WORD.get(_word, frozenset()) | {_kind}
for _words, _kinds in _GENERAL.items():
    for _word in _words.split():
        _OF_WORD[_word] = frozenset(_kinds)

RELATIONS = tuple(_KINDS)
"""What a contact's `relation` may be."""


def relations_of(name: str) -> frozenset[str]:
    """The relations that this word (in lower case) can stand for; none for a name."""
    return frozenset({name}) if name in _KINDS else _OF_WORD.get(name, frozenset())
