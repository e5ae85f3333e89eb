"""What stands behind a number, in Japanese, English and Chinese: the dimension it has and the factor to its base unit.

Base units: second, month (for months and years), metre, square metre, litre, gram, degree, yen; shares are of 1.
Where a word has two readings (キロ, 分, 日) both are given, since the other language says which one is meant.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple


class Unit(NamedTuple):
    """One reading of a unit."""

    dimension: str
    factor: Fraction


BARE = Unit("", Fraction(1))
"""A plain count, or a unit this table doesn't know."""

_TABLE: tuple[tuple[str, str], ...] = (
    # dimension and factor; readings separated by a bar | the words that say it, as regular expressions
    ("area 1000000", "平方キロ(?:メートル)?|平方公里|平方千米|square kilomet(?:re|er)s?|km2"),
    ("area 1", "平方メートル|平方米|square met(?:re|er)s?|m2"),
    ("area 10000", "ヘクタール|公顷|hectares?|ha\\b"),
    ("length 1000", "キロメートル|公里|千米|kilomet(?:re|er)s?|km"),
    ("length 1/100", "センチメートル|センチ|厘米|公分|centimet(?:re|er)s?|cm"),
    ("length 1/1000", "ミリメートル|ミリ(?!リットル|グラム)|毫米|millimet(?:re|er)s?|mm"),
    ("length 1/1000000", "マイクロメートル|微米|micromet(?:re|er)s?|μm|um\\b"),
    ("length 1", "メートル|米(?!国)|met(?:re|er)s?|m(?![a-z])"),
    ("mass 1000", "キログラム|公斤|千克|kilograms?|kilos?|kg"),
    ("mass 1/1000", "ミリグラム|毫克|milligrams?|mg"),
    ("mass 1000000", "トン|吨|tonnes?|tons?"),
    ("mass 1", "グラム|克|grams?|g(?![a-z])"),
    ("length 1000|mass 1000", "キロ"),
    ("volume 1/1000", "ミリリットル|毫升|millilit(?:re|er)s?|ml|cc\\b"),
    ("volume 1", "リットル|升|lit(?:re|er)s?|[lL](?![a-z])"),
    ("degree 1", "℃|°C|°|摄氏度|degrees?(?: Celsius)?|度(?!目|も|と|の)"),
    ("time 1", "秒钟?|seconds?|secs?\\b|s(?![a-z])"),
    ("time 60", "分間|分钟|分鐘|minutes?|mins?\\b"),
    ("time 60| 1|clock 1", "分(?![かけ布類])"),
    ("time 3600", "時間|小时|小時|hours?|h(?![a-z])"),
    ("time 86400", "日間|days?|天"),
    ("time 86400| 1", "日(?!本)"),
    ("time 604800", "週間|周(?!年)|星期|weeks?"),
    ("month 1", "[かヶケカ箇]月間?|个月|個月|months?"),
    ("month 12", "年間|years?"),
    ("month 12|year 1", "年(?!代|生|级)"),
    ("month 1200", "centur(?:y|ies)"),
    ("yen 1", "円|日元|yen"),
    ("money 1", "元|dollars?|ドル|美元|euros?|ユーロ|欧元|pounds?|ポンド"),
    ("share 1/100", "%|パーセント|per ?cent"),
    (" 12", "ダース|打(?!折)"),
    (" 144", "グロス|罗(?![马斯])"),
    (" 1", "[人個个本枚台冊册匹頭头羽件つ名社軒棟点點回次倍番号行字語语文句段歩步票通杯皿粒袋箱組组班階层層]"),
    (" 1", "[巻卷着足支张張只条座株棵辆歳岁歲口面坪]"),
    (" 1", "(?:people|persons?|pieces?|parts?|times|boxes|books?|points?|cups?|copies|sheets?|years? old)\\b"),
)  # fmt: skip
"""A later line counts only where no earlier one fits."""


def _readings(text: str) -> tuple[Unit, ...]:
    return tuple(
        Unit(dimension, Fraction(factor)) for dimension, factor in (reading.split(" ") for reading in text.split("|"))
    )


UNITS: tuple[tuple[Unit, ...], ...] = tuple(_readings(readings) for readings, _ in _TABLE)

BEHIND = re.compile(
    r"(?:余り?|多|数)?[ \-]?(?:" + "|".join(f"(?P<u{number}>{words})" for number, (_, words) in enumerate(_TABLE)) + ")"
)
"""Matches right behind a number; the name of the group that matched is ``u`` and the place in ``UNITS``."""

BEFORE = re.compile(r"(?:¥|￥|\$|€|第|No\.? ?|大さじ|小さじ)$")
"""What can stand before a number to make it one that counts."""

ERAS = {"明治": 1867, "大正": 1911, "昭和": 1925, "平成": 1988, "令和": 2018}
"""The year before the first of an era; 令和6年 is 2018 + 6."""

MONTHS = {
    "january": 1, "february": 2, "march": 3, "april": 4, "may": 5, "june": 6, "july": 7, "august": 8, "september": 9,
    "october": 10, "november": 11, "december": 12,
}  # fmt: skip
WEEKDAYS = {
    "monday": 0, "tuesday": 1, "wednesday": 2, "thursday": 3, "friday": 4, "saturday": 5, "sunday": 6,
    "月曜": 0, "火曜": 1, "水曜": 2, "木曜": 3, "金曜": 4, "土曜": 5, "日曜": 6, "日": 6, "天": 6,
}  # fmt: skip
"""The characters alone follow 星期 or 周."""
