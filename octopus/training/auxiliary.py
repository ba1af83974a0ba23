"""Refusals from other people's texts: requests and remarks that none of the functions fits.

In: the data folder. Out: Examples with `irrelevant_function`; the id begins with the source, so that a training mix
can weigh the sources. What counts as a refusal follows the annotated requests: personal data, the device, the time,
weather, sums and writing texts are refused, facts about the world are not (they are searched for).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from octopus.core import Call
from octopus.training.requests import Example, Language, normalised
from octopus.training.vocabulary import read_lines

REFUSED_CLINC = frozenset(
    "account_blocked alarm application_status apr are_you_a_bot balance bill_balance bill_due calculator calendar"
    " calendar_update cancel cancel_reservation card_declined change_accent change_ai_name change_language change_speed"
    " change_user_name change_volume credit_limit credit_score current_location date directions distance"
    " do_you_have_pets expiration_date flight_status flip_coin freeze_account goodbye greeting how_old_are_you income"
    " insurance last_maintenance make_call maybe meeting_schedule min_payment next_holiday next_song no order_status"
    " pay_bill payday pin_change play_music pto_balance pto_request pto_request_status pto_used reminder"
    " reminder_update repeat report_fraud reset_settings rewards_balance roll_dice routing schedule_maintenance"
    " schedule_meeting smart_home spending_history sync_device tell_joke thank_you time timer todo_list"
    " todo_list_update traffic transactions transfer translate uber update_playlist user_name weather"
    " what_are_your_hobbies what_can_i_ask_you what_is_your_name what_song where_are_you_from whisper_mode"
    " who_do_you_work_for who_made_you yes".split()
)
"""Intents of CLINC150 that no function covers."""

REFUSED_NLU = frozenset(
    "alarm_query alarm_remove alarm_set audio_volume_down audio_volume_mute audio_volume_up calendar_query"
    " calendar_remove calendar_set datetime_convert datetime_query email_query email_querycontact general_affirm"
    " general_commandstop general_confirm general_dontcare general_explain general_joke general_negate general_praise"
    " general_repeat iot_cleaning iot_coffee iot_hue_lightchange iot_hue_lightdim iot_hue_lightoff iot_hue_lighton"
    " iot_hue_lightup iot_wemo_off iot_wemo_on lists_query lists_remove music_likeness music_query music_settings"
    " play_audiobook play_game play_music play_podcasts play_radio qa_maths social_query takeaway_query"
    " transport_taxi transport_traffic weather_query".split()
)
"""Intents of the NLU evaluation data that no function covers."""

_NEAR_MISSES = {"email_query", "email_querycontact", "order_status", "takeaway_query", "lists_query", "lists_remove"}
_ASKED_BACK = re.compile(
    r"^(?:did|do i|have|has|is there|are there|any|check|show|read|open|give|erase|delete|remove|clear|empty)\b"
    r"|\b(?:my|status|ready|arriv\w+|unread|inbox|received?)\b"
)
_SICK = re.compile(r"\b(?:sick|ill|vomit\w*|limp\w*|ate|eats?|sle\w+|bit|bites?|thin|fat|scared|died?|tired|hurts?)\b")
_DOUBTFUL = re.compile(
    r"\b(?:look(?:ing)? (?:up|for)|search|find|google|lost|found|order|buy|purchase|texts?|texting|e-?mails?|messages?"
    r"|recipes?|recycl\w+|send|share|tell (?:him|her|my|them)|let .* know|report|letter|room|kitchen decor|design"
    r"|dogs?|cats?|pets?|puppy|shopping|groceries|dinner|pizza|delivery)\b",
    re.IGNORECASE,
)
_PERSONAL = re.compile(r"\b(?:my|i|me|we|our|mine)\b")
_ASKING = re.compile(r"\b(?:should|how (?:do|can|to|much do|long)|explain|tell me|prices?|near|what|who|where|best)\b")
_THIRD_PERSON = re.compile(r"(?:he|she|they|tom|mary|his|her|their) [a-z' ]{3,40}[.!]?", re.IGNORECASE)
_THIRD_PERSON_ZH = re.compile("(?:他|她|他们|她们|汤姆|玛丽)[\u4e00-\u9fff]{2,16}[。！]?")
_DOUBTFUL_ZH = re.compile(
    "[丢掉落捡拾找猫狗宠养买订购吃菜饭饿喝点发邮信告诉搜查扔垃圾装修房间屋病医送请帮让给借问說話給訊請們這個麼時會說沒還吐咬睡瘦胖叫抓怕疼死累]"
)
_WRITING = re.compile(
    r"(?:write|create|generate|compose|rewrite|summarize|summarise|translate|classify|edit|convert|calculate|paraphrase"
    r"|construct|brainstorm|tell me a (?:story|joke)|make up)\b.{8,50}",
    re.IGNORECASE,
)
_WRITING_ZH = re.compile(
    "(?:写|编写|创建|创作|生成|改写|重写|总结|翻译|将|把|编辑|分类|计算|构造|续写|朗读|设置|讲).{4,26}"
)


def auxiliary(data_folder: Path) -> list[Example]:
    """Refusals in both languages, without repeats, in a fixed order."""
    found: dict[str, Example] = {}
    text = data_folder / "text"
    for source, lang, words in (*_intents(text), *_remarks(text), *_writing(text)):
        words = " ".join(words.split())
        call = Call("irrelevant_function", {}, token="", confidence=1.0)
        if len(words) > 1:
            found.setdefault(normalised(words), Example(words, (call,), lang, source))
    return list(found.values())


def _intents(text: Path) -> Iterator[tuple[str, Language, str]]:
    """Requests by intent; of the out-of-scope rows those about the speaker's own affairs."""
    for number, row in enumerate(read_lines(text / "clinc/clinc150.jsonl.xz"), 1):
        words = row["text"]
        own = row["oos"] and _PERSONAL.search(words) and not _ASKING.search(words)
        if (own or row["intent"] in REFUSED_CLINC) and _certain(words, row["intent"]):
            yield f"clinc150:{number}", "en", words
    for number, row in enumerate(read_lines(text / "nlu_eval/nlu_eval.jsonl.xz"), 1):
        if row["intent"] in REFUSED_NLU and _certain(row["text"], row["intent"]):
            yield f"nlu_eval:{number}", "en", row["text"].replace("olly", "octopus")


def _certain(words: str, intent: str) -> bool:
    if intent in _NEAR_MISSES:
        return _ASKED_BACK.search(words) is not None
    return not _DOUBTFUL.search(words)


def _remarks(text: Path) -> Iterator[tuple[str, Language, str]]:
    """Sentences about others: nobody asks the phone for anything."""
    for number, row in enumerate(read_lines(text / "tatoeba/cmn_eng.jsonl.xz"), 1):
        english, chinese = row["en"], row["zh"]
        if _THIRD_PERSON.fullmatch(english) and not (_DOUBTFUL.search(english) or _SICK.search(english)):
            yield f"tatoeba:{number}", "en", english
        if _THIRD_PERSON_ZH.fullmatch(chinese) and not _DOUBTFUL_ZH.search(chinese):
            yield f"tatoeba:{number}", "zh", chinese.rstrip("。")


def _writing(text: Path) -> Iterator[tuple[str, Language, str]]:
    """Requests to write, rewrite or sort texts."""
    for number, row in enumerate(read_lines(text / "alpaca_en/alpaca_en.jsonl.xz"), 1):
        words = row["instruction"].strip()
        if _WRITING.fullmatch(words) and not _DOUBTFUL.search(words):
            yield f"alpaca_en:{number}", "en", words
    for number, row in enumerate(read_lines(text / "alpaca_zh/alpaca_zh.jsonl.xz"), 1):
        words = row["instruction"].strip()
        if _WRITING_ZH.fullmatch(words) and not re.search(
            "[猫狗宠邮信购买订菜饭餐房室搜查垃回收消息]|推荐|食谱|设计|什么|多少|哪", words
        ):
            yield f"alpaca_zh:{number}", "zh", words.rstrip("。")
