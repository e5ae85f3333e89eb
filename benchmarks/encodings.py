"""How often a text file without a mark is read in its own encoding, asked about, or read wrong.

    python -m benchmarks.encodings

Small CSV files of 1 to 30 rows are made of the project's own texts, of names and addresses, and of sentences in
languages that the records don't have; each in the encodings that spreadsheet programs of its country write.
"""

from __future__ import annotations

import csv
import io
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import charset_normalizer
from opencc import OpenCC
from rich.console import Console
from rich.table import Table

from bonsai.builder.errors import RecordError
from bonsai.builder.importing.encodings import decode_text_file
from bonsai.builder.records import default_records_dir, read_groups
from bonsai.builder.schema import TextGroup

ENCODINGS = {
    "Japanese": ("cp932", "euc_jp", "iso2022_jp"),
    "Japanese names": ("cp932", "euc_jp", "iso2022_jp"),
    "half-width kana": ("cp932",),
    "Chinese": ("gb18030",),
    "Chinese names": ("gb18030",),
    "traditional": ("big5",),
    "Korean": ("cp949",),
    "English, typographic": ("cp1252", "mac_roman"),
    "French": ("cp1252", "mac_roman"),
    "German": ("cp1252", "mac_roman"),
}
SHORT = {
    "Japanese names": "東京都千代田区永田町一丁目七番 大阪市北区梅田 京都市左京区 山田太郎 佐藤花子 夏目漱石 請求書",
    "half-width kana": "ｺﾝﾆﾁﾊ ﾄｳｷｮｳﾄ ﾔﾏﾀﾞ・ﾀﾛｳ ｶﾌﾞｼｷｶﾞｲｼｬ ﾅｶﾞﾀﾁｮｳ",
    "Chinese names": "北京市海淀区中关村大街 上海市浦东新区 张三 李四光 中国人民银行 红楼梦 鲁迅 工程师",
}
SENTENCES = {
    "Korean": "한국의 수도는 어디입니까?|대한민국의 수도는 서울입니다.|김치는 배추를 소금에 절여 만든 음식입니다."
    "|빵은 왜 부풀어 오릅니까?|효모가 만드는 기체가 반죽을 부풀립니다.|두부는 콩으로 만듭니다.|오늘은 날씨가 맑습니다.",
    "English, typographic": "It’s the gas that yeast makes.|Don’t water it twice; the soil can’t drain."
    "|“Bonsai” means planted in a tray.|The café serves crème brûlée.|Water boils at 100 °C – at sea level.",
    "French": "Où se trouve la tour Eiffel ?|Elle se trouve à Paris, près de la Seine.|Qu’est-ce qu’un bonsaï ?"
    "|La levure produit un gaz qui soulève la pâte.|C’est un arbre élevé dans un pot.",
    "German": "Warum geht der Brotteig auf?|Die Hefe erzeugt ein Gas, das den Teig hebt.|Wo liegt München?"
    "|Im Süden Deutschlands, nördlich der Alpen.|Ein Bäumchen in einer Schale.",
}
SIZES = {1: 12, 2: 12, 5: 12, 30: 4}
"""Rows of a file, and how many files of that size."""


def files() -> Iterator[tuple[str, str, str]]:
    """Yield kind, encoding and text of each file; the same ones every time."""
    chance = random.Random(5)
    texts: dict[str, list[str]] = {"ja": [], "zh": []}
    for located in read_groups(default_records_dir()):
        if isinstance(located.group, TextGroup):
            for language, text in located.group.texts().items():
                texts.setdefault(language, []).extend((text.instruction, text.output))
    traditional = OpenCC("s2twp")
    pools = {
        "Japanese": texts["ja"],
        "Chinese": texts["zh"],
        "traditional": list(map(traditional.convert, texts["zh"])),
    }
    pools |= {kind: words.split(" ") for kind, words in SHORT.items()}
    pools |= {kind: sentences.split("|") for kind, sentences in SENTENCES.items()}
    for kind, encodings in ENCODINGS.items():
        for encoding in encodings:
            for rows, count in SIZES.items():
                for number in range(count):
                    out = io.StringIO(newline="")
                    writer = csv.writer(out)
                    writer.writerow(["id", "instruction", "input", "output"])
                    for row in range(rows):
                        writer.writerow([row, chance.choice(pools[kind]), "", chance.choice(pools[kind])])
                        if number % 2:  # in every second file English stands between
                            writer.writerow(
                                [row, chance.choice(texts["en"]).encode("ascii", "ignore").decode(), "", "Yes."]
                            )
                    raw = out.getvalue().encode(encoding, "ignore")
                    if not raw.isascii() or encoding == "iso2022_jp":
                        yield kind, encoding, raw.decode(encoding)


def by_charset_normalizer(raw: bytes) -> str | None:
    """Decode with the best guess of charset-normalizer."""
    best = charset_normalizer.from_bytes(raw).best()
    return None if best is None else str(best)


def by_bonsai(raw: bytes) -> str | None:
    """Decode as an import does; None where a person is asked."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        path.write_bytes(raw)
        try:
            return decode_text_file(path).text
        except RecordError:
            return None


def main() -> None:
    """Print a table: files, and what became of them with either."""
    tools: dict[str, Callable[[bytes], str | None]] = {"bonsai": by_bonsai, "charset-normalizer": by_charset_normalizer}
    totals: Counter[tuple[str, str]] = Counter()
    counts: Counter[tuple[str, str, str, str]] = Counter()
    for kind, encoding, text in files():
        totals[kind, encoding] += 1
        for name, decode in tools.items():
            read = decode(text.encode(encoding))
            outcome = "asked" if read is None else "right" if read.split() == text.split() else "wrong"
            counts[kind, encoding, name, outcome] += 1
    table = Table(
        "text", "encoding", "files", *(f"{name}: {what}" for name in tools for what in ("right", "asked", "wrong"))
    )
    for (kind, encoding), total in totals.items():
        cells = [str(counts[kind, encoding, name, what]) for name in tools for what in ("right", "asked", "wrong")]
        table.add_row(kind, encoding, str(total), *cells)
    table.add_section()
    sums = [
        sum(v for k, v in counts.items() if k[2:] == (name, w)) for name in tools for w in ("right", "asked", "wrong")
    ]
    table.add_row("all", "", str(totals.total()), *map(str, sums))
    Console().print(table)


if __name__ == "__main__":
    main()
