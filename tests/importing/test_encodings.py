"""Text files in the encodings of Japanese, Chinese, Korean and English spreadsheets: read right, or asked about."""

from __future__ import annotations

from pathlib import Path

import pytest

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.encodings import decode_text_file

HEAD = "id,instruction,input,output\r\n"
JAPANESE = HEAD + "1,寒天は何から作られますか。,,海藻のテングサなどから作られます。\r\n2,What is it?,,Red algae.\r\n"
ADDRESSES = (
    HEAD + "1,Which city?,東京都千代田区永田町一丁目七番,東京\r\n2,Which city?,大阪府大阪市北区梅田三丁目,大阪市\r\n"
)
COMPANIES = (
    HEAD + "1,Who?,株式会社日本製鉄営業部長山田太郎,山田太郎\r\n2,Who?,愛知県名古屋市中村区佐藤花子,佐藤花子\r\n"
)
SIMPLIFIED = HEAD + "1,琼脂是用什么做的？,,琼脂是用红藻煮成的。\r\n2,Where is it?,北京市海淀区中关村大街,北京市\r\n"
TRADITIONAL = HEAD + "1,臺灣最高的山叫什麼名字？,,臺灣最高的山是玉山，海拔三千九百多公尺。\r\n"
KOREAN = HEAD + "1,대한민국의 수도는 어디입니까?,,대한민국의 수도는 서울입니다.\r\n"
ENGLISH = HEAD + "1,Why does bread rise?,,It’s the gas that yeast makes; the dough can’t let it out.\r\n"
QUOTES = HEAD + "1,Explain it.,,“Bonsai” is Japanese – it means “planted in a tray”.\r\n2,Where?,,In the café.\r\n"
FRENCH = HEAD + "1,Où se trouve la tour Eiffel ?,,Elle se trouve à Paris, près de la Seine.\r\n"
HALF_WIDTH = HEAD + "1,Read it.,ﾄｳｷｮｳﾄ ﾁﾖﾀﾞｸ ﾅｶﾞﾀﾁｮｳ,ﾄｳｷｮｳﾄ\r\n2,Read it.,ｶﾌﾞｼｷｶﾞｲｼｬ ﾔﾏﾀﾞ,ﾔﾏﾀﾞ\r\n"
CIRCLED = HEAD + "1,㈱髙﨑の①～③は何ですか。,,①鉢②土③剪定鋏です。\r\n"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (JAPANESE, "cp932"),
        (JAPANESE, "euc_jp"),
        (JAPANESE, "iso2022_jp"),
        (ADDRESSES, "cp932"),
        (ADDRESSES, "euc_jp"),
        (ADDRESSES, "iso2022_jp"),
        (COMPANIES, "cp932"),
        (COMPANIES, "euc_jp"),
        (HALF_WIDTH, "cp932"),
        (CIRCLED, "cp932"),
        (SIMPLIFIED, "gb18030"),
        (TRADITIONAL, "cp950"),
        (KOREAN, "cp949"),
        (ENGLISH, "cp1252"),
        (QUOTES, "cp1252"),
        (FRENCH, "cp1252"),
        (JAPANESE, "utf-16-le"),
        (ADDRESSES, "utf-16-be"),
        (JAPANESE, "utf-32"),
        (JAPANESE, "utf-16"),
        (SIMPLIFIED, "utf-8-sig"),
        (TRADITIONAL, "utf-8"),
    ],
)
def test_a_file_is_read_in_the_encoding_it_was_saved_in(tmp_path: Path, text: str, encoding: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode(encoding))
    assert decode_text_file(path).text == text


@pytest.mark.parametrize(
    "raw",
    [
        HEAD.encode() + "1,Who?,,王\n".encode("gbk"),
        HEAD.encode() + "1,Who?,,校長\n".encode("euc_jp"),
        HEAD.encode() + b"\x80\xff\xff,\xff\n",
        HEAD.encode() + "1,Кто это?,,Это дерево.\n".encode("koi8-r"),
    ],
    ids=["one letter", "two letters", "noise", "Russian"],
)
def test_what_is_too_little_to_tell_by_is_asked_for_and_not_guessed(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(raw)
    with pytest.raises(RecordError, match=r"no other encoding is certain .* as in --encoding"):
        decode_text_file(path)


def test_a_named_encoding_is_taken_under_all_of_its_names_and_a_mark_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(CIRCLED.encode("cp932"))
    assert [decode_text_file(path, name).text for name in ("Shift_JIS", "sjis", "cp932", "Windows-31J")] == [
        CIRCLED
    ] * 4
    for encoding, name in (
        ("utf-8-sig", "utf-8"),
        ("utf-8-sig", "UTF8"),
        ("utf-16", "utf-16"),
        ("utf-16", "utf-16-le"),
    ):
        path.write_bytes(CIRCLED.encode(encoding))
        assert decode_text_file(path, name).text == CIRCLED
    path.write_bytes("镕，琼脂".encode("gbk"))
    assert decode_text_file(path, "GB2312").text == "镕，琼脂"


@pytest.mark.parametrize("name", ["klingon", "base64", "utf-8"])
def test_a_named_encoding_that_does_not_fit_is_refused_in_a_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(CIRCLED.encode("cp932"))
    with pytest.raises(RecordError, match=f"not {name} .*; name the encoding"):
        decode_text_file(path, name)


@pytest.mark.parametrize(
    "damaged", [b"\xe5\xaf", "三".encode("cp932"), "é".encode("cp1252")], ids=["cut", "cp932", "latin"]
)
def test_utf8_with_damage_is_refused_with_its_line_and_not_read_as_something_else(
    tmp_path: Path, damaged: bytes
) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(JAPANESE.encode() + b"3," + damaged + b",,x\r\n" + JAPANESE.encode())
    with pytest.raises(RecordError, match=r"rows.csv:4: byte 0x.. is not UTF-8, which the rest of the file is"):
        decode_text_file(path)


def test_a_mark_that_the_file_breaks_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"\xef\xbb\xbf" + HEAD.encode() + "東京".encode("cp932"))
    with pytest.raises(RecordError, match=r"rows.csv:2: the byte-order mark promises utf-8-sig"):
        decode_text_file(path)


def test_nul_and_line_separators_in_utf8_do_not_make_it_anything_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    text = HEAD + "1,a\0b,,c\u2028d\u0085e\r\n"
    path.write_bytes(text.encode())
    assert decode_text_file(path).text == text
