#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Makes tests/data/tokenizer: small tokenizers of each supported kind, and for each one the ids and
texts that the `tokenizers` library gives for generated strings.

    python3 scripts/make_tokenizer_vectors.py [--strings 20000] [--seed 1]

Needs the PyPI package `tokenizers`. Everything follows from the seed and the
library's version, both written to tests/data/tokenizer/VERSION, and from the sources under runtime/base, which
are part of the training text: at a later commit the vocabularies and strings differ, and are as good.

Files, little endian, gzip where the name says so:
  strings.gz        u32 count, then per string u32 bytes and the bytes (not always valid UTF-8):
                    the strings of all tokenizers, the hand-picked ones first
  KIND.json.gz      the tokenizer
  KIND.crc          per string two u32: CRC-32 of what encoding gives, of what decoding gives
  KIND.answers.gz   u32 count, then for the first so many strings the answers themselves:
                        u32 count, i32 ids: special tokens parsed and added (encode's default)
                        u32 count, i32 ids: special-token text taken as text, nothing added
                        u32 bytes, text: decode of the first ids
                        u32 bytes, text: decode of the first ids without special tokens
  KIND.decode.gz    u32 count, then per list of random ids: u32 count, i32 ids, and the two texts as above
The first CRC is over the first two fields as they stand there, the second over the last two.
"""
import argparse
import gzip
import json
import pathlib
import random
import struct
import unicodedata
import zlib

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests" / "data" / "tokenizer"

GPT2_SPECIALS = [
    AddedToken("<|endoftext|>", special=True, normalized=False),
    AddedToken("<|im_start|>", special=True, normalized=False),
    AddedToken("<|im_end|>", special=True, normalized=False, rstrip=True),
    AddedToken("<mask>", special=True, normalized=False, lstrip=True),
    AddedToken("<think>", special=False, normalized=False),
    AddedToken("<both>", special=False, normalized=False, lstrip=True, rstrip=True),
    AddedToken("alone", special=False, normalized=False, single_word=True),
    AddedToken("café", special=False, normalized=True),
    AddedToken("<|end", special=False, normalized=True),
]

LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# One stretch of common letters for each script that generated words draw from.
SCRIPTS = [
    (0x61, 0x7A), (0x61, 0x7A), (0x41, 0x5A), (0xE0, 0xFF), (0x100, 0x17F), (0x3B1, 0x3C9),
    (0x430, 0x44F), (0x561, 0x586), (0x5D0, 0x5EA), (0x627, 0x64A), (0x905, 0x939),
    (0x985, 0x9B9), (0xB85, 0xBB9), (0xE01, 0xE3A), (0x10D0, 0x10F0), (0x1200, 0x1248),
    (0x13A0, 0x13F0), (0x1780, 0x17B3), (0x3041, 0x3096), (0x30A1, 0x30FA), (0x4E00, 0x4F80),
    (0xAC00, 0xAD00), (0x1F00, 0x1F15), (0x10400, 0x1044F), (0x1D400, 0x1D433), (0x20000, 0x20040),
]
MARKS = [0x300, 0x301, 0x302, 0x303, 0x308, 0x30A, 0x323, 0x327, 0x328, 0x345, 0x5B0, 0x64B, 0x93C,
         0x94D, 0x9BC, 0xE31, 0x1161, 0x11A8, 0x3099, 0x309A, 0x20D7, 0xFE0F]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇫🇷🇯🇵", "❤️", "☃", "🧑🏿‍🚀", "🫠", "⌚"]
SPACES = [" ", "  ", "    ", "\n", "\n\n", "\r\n", "\t", " \n ", "\u00a0", "\u2003", "\u3000",
          "\u2028", "\u0085", "\x0b", "\x0c", " " * 17, "\n" * 9]
PIECES = ["'s", "'T", "'re", "'VE", "'m", "'ll", "'D", "'\u017f", "don't", "I'll", "we've", "it's",
          "<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<mask>",
          "<think>", "<both>", "alone", "alonealone", "<|end", "<|endoftext", "café", "cafe\u0301",
          "<|begin_of_text|>", "[INST]", "[/INST]", "▁", "▁▁x", "<0x41>", "<0xE2>", "Ġ", "Ċ", "http://a.b/c?d=e&f", "Polyreme", " communicator", " deterministic", "alongtheway",
          "x += 1;", "return 0;", "{\n    ", "}\n", "0x1F", "3.14159", "1,234,567", "2026-01-31", "½", "Ⅷ", "٣٤", "¹²",
          "...", "!!!", "?!", "—", "“quoted”", "C++", "a_b", "#!", "$9.99", "100%", "@you", "\x00", "\x01\x02", "\x7f",
          "\ufeff", "\u200b", "\u200d", "\u200c", "\ufffd", "ﬁ", "Å", "Ω", "가", "ǰ", "İ", "ß", "\u0344", "\u0958"]


def old_character(c):
    """Whether c was assigned, or reserved, identically in Unicode 14 (what PCRE2 10.42 knows) and
    in the library's tables; U+180E is a space to PCRE2 alone."""
    return ord(c) != 0x180E and (unicodedata.category(c) != "Cn" or ord(c) > 0x323AF)


def word(rng):
    low, high = rng.choice(SCRIPTS)
    text = "".join(chr(rng.randint(low, high)) for _ in range(min(int(rng.expovariate(0.25)) + 1, 30)))
    if rng.random() < 0.1:
        text = "".join(c + chr(rng.choice(MARKS)) if rng.random() < 0.5 else c for c in text)
    if rng.random() < 0.05:
        text = unicodedata.normalize(rng.choice(["NFD", "NFKD", "NFC"]), text)
    return text


def number(rng):
    return str(rng.randrange(10 ** rng.randint(1, 12)))


def any_character(rng):
    while True:
        point = rng.choice([rng.randrange(0x250), rng.randrange(0x3000), rng.randrange(0x10000),
                            rng.randrange(0x20000)])
        if not 0xD800 <= point < 0xE000 and old_character(chr(point)):
            return chr(point)


def broken_bytes(rng):
    text = bytearray("".join(rng.choice(["aé", "中文", "😀x", " "]) for _ in range(4)).encode())
    for _ in range(rng.randint(1, 4)):
        where = rng.randrange(len(text) + 1)
        kind = rng.random()
        if kind < 0.4 and where < len(text):
            del text[where]
        elif kind < 0.7:
            text[where:where] = bytes([rng.randrange(128, 256)])
        else:
            text[where:where] = rng.choice([b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82",
                                            b"\xf0\x9f\x98", b"\xff", b"\xf8\x88\x80\x80\x80"])
    return bytes(text)


def sentence(rng, words):
    parts = []
    for _ in range(rng.randint(1, 12)):
        kind = rng.random()
        if kind < 0.40:
            parts.append(rng.choice(words))
        elif kind < 0.58:
            parts.append(word(rng))
        elif kind < 0.66:
            parts.append(number(rng))
        elif kind < 0.82:
            parts.append(rng.choice(PIECES))
        elif kind < 0.87:
            parts.append(rng.choice(EMOJI))
        elif kind < 0.92:
            parts.append("".join(any_character(rng) for _ in range(rng.randint(1, 4))))
        else:
            parts.append(rng.choice("aA-=.é中") * rng.randint(2, 40))
        if rng.random() < 0.7:
            parts.append(" " if rng.random() < 0.7 else rng.choice(SPACES))
    return "".join(parts)


def hand_picked():
    texts = [b"", b" ", b"  ", b"\n", b"\x00", b"a", b"\xff", b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98\x80"]
    texts += [p.encode() for p in PIECES + EMOJI + SPACES]
    texts += [(a + b).encode() for a in PIECES for b in (" x", "x", "\n", "  ")]
    texts += [(b + a).encode() for a in PIECES for b in ("x ", "x", "\n", "  ")]
    texts += [(a + b).encode() for a in PIECES[8:32] for b in PIECES[8:32]]
    texts += [b"a" * 200, b"a" * 5000, b" " * 3000, b"\n" * 300, "é".encode() * 700, "中".encode() * 400,
              "😀".encode() * 300, b"ab" * 1000, b"1" * 500, b"\xff" * 300, b"\x80" * 97]
    return texts


def corpus(rng):
    """Training text: our own documents and sources, and generated words so that every script has merges."""
    text = []
    for path in sorted(ROOT.glob("runtime/base/*.[ch]")) + [ROOT / "CMakeLists.txt", ROOT / "LICENSE"]:
        text.append(path.read_text())
    stock = [word(rng) for _ in range(600)]
    for _ in range(6000):
        text.append(" ".join(rng.choice(stock) if rng.random() < 0.7 else word(rng) for _ in range(8)))
    for _ in range(500):
        text.append(f"I'll say it's {number(rng)} {rng.choice(EMOJI)} don't we've\n\n    x")
    words = sorted(set(" ".join(text[:20]).split()))
    return text, words


def split(regex):
    return pre_tokenizers.Split(Regex(regex), behavior="isolated")


def train(tokenizer, text, size, alphabet, specials=()):
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, special_tokens=list(specials),
                                  show_progress=False)
    tokenizer.train_from_iterator(text, trainer)


def byte_level(text, size, pre_tokenizer, normalizer=None):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer:
        tokenizer.normalizer = normalizer
    train(tokenizer, text, size, sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(GPT2_SPECIALS)
    return tokenizer


def with_whole_words(tokenizer):
    """ignore_merges, and words without the merges that lead to them, which only it can find."""
    model = json.loads(tokenizer.to_str())["model"]
    for extra in ("Polyreme", "Ġcommunicator", "Ġdeterministic", "alongtheway"):
        model["vocab"].setdefault(extra, len(model["vocab"]))
    changed = Tokenizer(models.BPE(vocab=model["vocab"], merges=[tuple(m) for m in model["merges"]],
                                   ignore_merges=True))
    changed.pre_tokenizer = tokenizer.pre_tokenizer
    changed.decoder = tokenizer.decoder
    changed.add_tokens(GPT2_SPECIALS)
    return changed


def sentencepiece(text, size):
    """As Llama-2's file: no pre-tokenizer, bytes as fallback, spaces as U+2581 by normalizers."""
    specials = ["<unk>", "<s>", "</s>"]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    train(tokenizer, text, size, [], specials + [f"<0x{b:02X}>" for b in range(256)])
    model = json.loads(tokenizer.to_str())["model"]
    # Rare characters leave the vocabulary, so that the byte fallback has work to do.
    rare = {t for t in model["vocab"] if len(t) == 1 and ord(t) > 0x2FF and ord(t) % 5 == 0 and t != "▁"}
    kept = [t for t in model["vocab"] if not rare & set(t)]
    vocab = {t: i for i, t in enumerate(kept)}
    merges = [tuple(m) for m in model["merges"] if m[0] in vocab and m[1] in vocab and m[0] + m[1] in vocab]
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", vocab["<s>"])])
    return tokenizer


def sp_decoder():
    return decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                              decoders.Strip(" ", 1, 0)])


def build(text):
    """name -> tokenizer"""
    made = {}
    made["gpt2"] = byte_level(text, 2000, pre_tokenizers.ByteLevel(add_prefix_space=False))
    made["gpt2_prefix"] = byte_level(text, 1200, pre_tokenizers.ByteLevel(add_prefix_space=True))
    made["gpt2_prefix"].post_processor = processors.ByteLevel(trim_offsets=False)

    llama3 = byte_level(text, 2400, pre_tokenizers.Sequence(
        [split(LLAMA3), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]))
    llama3 = with_whole_words(llama3)
    llama3.add_special_tokens([AddedToken("<|begin_of_text|>", special=True, normalized=False)])
    bos = llama3.token_to_id("<|begin_of_text|>")
    llama3.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", bos)])])
    made["llama3"] = llama3

    made["qwen2"] = byte_level(text, 2000, pre_tokenizers.Sequence(
        [split(QWEN2), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]), normalizers.NFC())

    deepseek = [pre_tokenizers.Split(Regex("[\r\n]"), behavior="isolated"),
                pre_tokenizers.Split(Regex(r"\s?\p{L}+"), behavior="isolated"),
                pre_tokenizers.Split(Regex(r"\s?\p{P}+"), behavior="isolated"),
                pre_tokenizers.Split("=", behavior="merged_with_previous"),
                pre_tokenizers.Split("-", behavior="merged_with_next"),
                pre_tokenizers.Split(Regex(r"[.!]"), behavior="contiguous"),
                pre_tokenizers.Split(Regex(r"[^#]"), behavior="contiguous", invert=True),
                pre_tokenizers.Split("\x7f", behavior="removed"),
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    made["splits"] = byte_level(text, 1200, pre_tokenizers.Sequence(deepseek))

    made["llama2"] = sentencepiece(text, 3000)
    made["llama2"].normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made["llama2"].decoder = sp_decoder()
    made["llama2"].add_tokens([AddedToken("[INST]", normalized=False), AddedToken("alone", single_word=True, normalized=True)])

    made["mistral"] = sentencepiece(text, 2000)
    made["mistral"].pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    made["mistral"].decoder = sp_decoder()
    made["mistral"].add_special_tokens([AddedToken("[INST]", normalized=False), AddedToken("[/INST]", normalized=False)])

    made["metaspace"] = sentencepiece(text, 1500)
    made["metaspace"].normalizer = normalizers.Sequence([normalizers.Strip(left=False, right=True),
                                                         normalizers.Replace(Regex(r" {2,}"), " ")])
    made["metaspace"].pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    made["metaspace"].decoder = decoders.Metaspace(prepend_scheme="always")
    return made


def old_merges(file):
    """The form of older files: "left right"."""
    file["model"]["merges"] = [" ".join(m) for m in file["model"]["merges"]]
    return file


def pack_ids(ids):
    return struct.pack(f"<I{len(ids)}i", len(ids), *ids)


def pack_text(text):
    return struct.pack("<I", len(text)) + text


def answers(tokenizer, raw):
    """What encoding gives and what decoding gives, packed."""
    text = raw.decode("utf-8", "replace")
    tokenizer.encode_special_tokens = False
    ids = tokenizer.encode(text).ids
    tokenizer.encode_special_tokens = True
    plain = tokenizer.encode(text, add_special_tokens=False).ids
    whole = tokenizer.decode(ids, skip_special_tokens=False).encode()
    skipped = tokenizer.decode(ids, skip_special_tokens=True).encode()
    return pack_ids(ids) + pack_ids(plain), pack_text(whole) + pack_text(skipped)


def write_gzip(name, data):
    (OUT / name).write_bytes(gzip.compress(data, 9, mtime=0))


def write_answers(name, tokenizer, texts, shown):
    crc, first = [], []
    for raw in texts:
        encoded, decoded = answers(tokenizer, raw)
        crc.append(struct.pack("<II", zlib.crc32(encoded), zlib.crc32(decoded)))
        if len(crc) <= shown:
            first.append(encoded + decoded)
    (OUT / f"{name}.crc").write_bytes(b"".join(crc))
    write_gzip(f"{name}.answers.gz", struct.pack("<I", shown) + b"".join(first))


def write_random_ids(name, tokenizer, seed, count=1500):
    """Ids as no encoder makes them: broken runs of bytes, special tokens anywhere."""
    rng = random.Random(f"{seed} {name}")
    size = tokenizer.get_vocab_size()
    out = [struct.pack("<I", count)]
    for _ in range(count):
        span = rng.choice([260, 300, size])  # the byte tokens have the lowest ids
        ids = [rng.randrange(span) if rng.random() < 0.95 else rng.randrange(size - 12, size + 2)
               for _ in range(rng.randint(1, 14))]
        out.append(pack_ids(ids))
        for skip in (False, True):
            out.append(pack_text(tokenizer.decode(ids, skip_special_tokens=skip).encode()))
    write_gzip(f"{name}.decode.gz", b"".join(out))


def generated(rng, words):
    if rng.random() < 0.08:
        return broken_bytes(rng)
    return sentence(rng, words).encode()


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--strings", type=int, default=20000)
    options.add_argument("--seed", type=int, default=1)
    options = options.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)
    rng = random.Random(options.seed)
    text, words = corpus(rng)
    texts = hand_picked()
    shown = len(texts)
    texts += [generated(rng, words) for _ in range(options.strings - shown)]
    write_gzip("strings.gz", struct.pack("<I", len(texts)) + b"".join(map(pack_text, texts)))
    for name, tokenizer in build(text).items():
        file = json.loads(tokenizer.to_str())
        if name in ("gpt2_prefix", "llama2"):
            file = old_merges(file)
        data = json.dumps(file, ensure_ascii=False, separators=(",", ":")).encode()
        write_gzip(f"{name}.json.gz", data)
        tokenizer = Tokenizer.from_str(data.decode())
        write_answers(name, tokenizer, texts, shown)
        write_random_ids(name, tokenizer, options.seed)
        print(name, tokenizer.get_vocab_size(), "tokens,", len(texts), "strings")
    (OUT / "VERSION").write_text(f"tokenizers {tokenizers.__version__}, seed {options.seed}\n")


if __name__ == "__main__":
    main()
