"""Tokenizers of many kinds, tiny, with what transformers makes of them.

    python make_tokenizers.py    # writes a folder for each, the same bytes each time; no network

Made with Python 3.11, transformers 5.23.0 and tokenizers 0.23.2 (pip install transformers==5.23.0 tokenizers==0.23.2).
`expected.json`: `encode` is `tokenizer(text)["input_ids"]`, `decode` is `tokenizer.decode(ids, skip_special_tokens=True)`;
`tokenizer_warns` are words that warnings have to contain. All words and vocabularies are made here.
"""

import base64
import json
import random
import shutil
import struct
from pathlib import Path

from transformers import AutoTokenizer

HERE = Path(__file__).parent
END = "<|endoftext|>"
TEXTS = [
    "",
    "he",
    "the hen",
    " the  old king",
    "The König, he isn't here!",
    "a\tb\nc ",
    "日本 ☃ 😀",
    f"he{END}the",
    "[CLS]the[SEP]",
    "<s>the hen</s> <mask> x<mask>y",
    "THE é naïve",
    "we 've do not . they 're ' x ' !",
    "aab <|user|> he",
]


def byte_alphabet():
    printable = [*range(33, 127), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [b for b in range(256) if b not in printable]
    return {**{b: chr(b) for b in printable}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def byte_vocab(*more):
    alphabet = byte_alphabet()
    tokens = [alphabet[b] for b in range(256)] + ["he", "Ġt", "Ġthe", "in"] + list(more)
    return {token: i for i, token in enumerate(tokens)}


MERGES = [("h", "e"), ("Ġ", "t"), ("Ġt", "he"), ("i", "n")]
LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>"]


def added(content, id, **flags):
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True, **flags}
    return {"content": content, **flags} if id is None else {"id": id, "content": content, **flags}


def whole(model, tokens=(), **steps):
    steps = {"normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **steps}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": list(tokens),
        **steps,
        "model": model,
    }


def bpe(vocab, merges, **fields):
    fields = {
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        **fields,
    }
    return {"type": "BPE", **fields, "vocab": vocab, "merges": [list(pair) for pair in merges]}


def level_file(tokens=None, **steps):
    tokens = [added(END, 260)] if tokens is None else tokens
    steps = {"pre_tokenizer": LEVEL, "post_processor": LEVEL, "decoder": LEVEL, **steps}
    return whole(bpe(byte_vocab(END), MERGES), tokens, **steps)


def meta(kind="Metaspace", scheme="always"):
    return {"type": kind, "replacement": "▁", "prepend_scheme": scheme, "split": True}


def char_vocab(byte_tokens):
    tokens = SPECIAL + [f"<0x{b:02X}>" for b in range(256) if byte_tokens]
    tokens += ["▁"] + [chr(c) for c in range(97, 123)] + list("THEK,.!'") + ["he", "▁t", "▁the", "in"]
    return {token: i for i, token in enumerate(tokens)}


CHAR_MERGES = [("h", "e"), ("▁", "t"), ("▁t", "he"), ("i", "n")]
SPECIAL_ADDED = [added(token, i) for i, token in enumerate(SPECIAL)]
BACKEND = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def unigram(byte_fallback=False):
    tokens = [(t, 0.0) for t in SPECIAL]
    if byte_fallback:
        tokens += [(f"<0x{b:02X}>", -9.0) for b in range(256)]
    tokens += [("▁", -3.0), ("▁the", -2.0), ("he", -2.5), ("▁he", -2.7), ("in", -3.0)]
    tokens += [(c, -5.0 - i / 64) for i, c in enumerate("abcdefghijklmnopqrstuvwxyzTK,.!'")]
    return {"type": "Unigram", "unk_id": 0, "byte_fallback": byte_fallback, "vocab": [list(t) for t in tokens]}


WORDS = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "the",
    "The",
    "hen",
    "he",
    "##n",
    "##re",
    "isn",
    "'",
    "t",
    "a",
    "b",
    "c",
    "old",
    "king",
    "##s",
    "König",
    "konig",
    ",",
    ".",
    "!",
    "日",
    "本",
    "we",
    "ve",
    "they",
    "re",
    "x",
    "do",
    "not",
    "##aa",
    "aab",
    "naive",
    "naïve",
    "e",
    "é",
    ":",
    "y",
]


def charsmap():
    """SentencePiece's table that makes "K" of "ｋ" (EF BD 8B), nothing of a tab, and "TM" of "™" (E2 84 A2)."""
    texts = b"K\0TM\0\0"
    keys = {"ｋ".encode(): 0, "™".encode(): 2, b"\t": 5}
    units, free = [0] * 256, [1]

    def place(prefix, at):
        block = free[0]
        free[0] += 1
        units.extend([0] * 256)
        base = block * 256
        offset = at ^ base
        small = offset < 1 << 21
        units[at] |= offset << 10 if small else (offset >> 8) << 10 | 1 << 9
        for byte in sorted({key[len(prefix)] for key in keys if key.startswith(prefix) and len(key) > len(prefix)}):
            units[base ^ byte] |= byte
            place(prefix + bytes([byte]), base ^ byte)
        if prefix in keys:
            units[at] |= 1 << 8
            units[base] = 1 << 31 | keys[prefix]

    place(b"", 0)
    trie = struct.pack(f"<{len(units)}I", *units)
    return base64.b64encode(struct.pack("<I", len(trie)) + trie + texts).decode()


def cases():
    vocab, merges = byte_vocab(END), "#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in MERGES)
    gpt2 = {"vocab.json": vocab, "merges.txt": merges}
    yield "gpt2_add_bos", {
        **gpt2,
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True},
    }, []
    yield "gpt2_add_bos_eos_file", {
        "tokenizer.json": level_file(),
        "tokenizer_config.json": {"tokenizer_class": "GPT2TokenizerFast", "add_bos_token": True, "add_eos_token": True},
    }, []
    yield "gpt2_prefix_space_vocab", {**gpt2, "tokenizer_config.json": {"add_prefix_space": True, "bos_token": END}}, []
    yield "gpt2_prefix_space_only_in_file", {
        "tokenizer.json": level_file(pre_tokenizer={**LEVEL, "add_prefix_space": True})
    }, []
    yield "gpt2_normalizer_ignored", {"tokenizer.json": level_file(normalizer={"type": "Lowercase"})}, ["Lowercase"]
    yield "gpt2_no_end_of_text", {"vocab.json": byte_vocab(), "merges.txt": merges}, []
    yield "gpt2_added_out_of_order", {
        **gpt2,
        "added_tokens.json": {"<|user|>": 300, "<mask>": 270},
        "special_tokens_map.json": {"mask_token": "<mask>"},
    }, ["<|user|>"]
    yield "gpt2_added_decoder", {
        **gpt2,
        "tokenizer_config.json": {
            "tokenizer_class": "GPT2Tokenizer",
            "pad_token": "<pad>",
            "additional_special_tokens": ["</s>"],
            "added_tokens_decoder": {
                "260": added(END, None),
                "261": added("<|user|>", None, special=False, normalized=True),
                "262": added("<mask>", None, lstrip=True, rstrip=True, special=False),
                "263": added("<s>", None, single_word=True, special=False),
            },
        },
    }, []
    yield "gpt2_objects_in_map", {
        **gpt2,
        "special_tokens_map.json": {
            "mask_token": {
                "content": "<mask>",
                "lstrip": True,
                "rstrip": False,
                "normalized": False,
                "single_word": False,
            },
            "additional_special_tokens": ["<s>", "</s>"],
        },
    }, []
    yield "gpt2_latin_added", {
        "tokenizer.json": level_file(
            [added(END, 260), added("naïve", 261, special=False), added("日本", 262, special=False)]
        )
    }, []
    yield "level_backend_steps", {
        "tokenizer.json": level_file(
            normalizer={"type": "Sequence", "normalizers": [{"type": "NFD"}, {"type": "StripAccents"}]},
            pre_tokenizer={
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": True}, {**LEVEL, "add_prefix_space": True}],
            },
            post_processor={
                "type": "TemplateProcessing",
                "single": [
                    {"SpecialToken": {"id": END, "type_id": 0}},
                    {"Sequence": {"id": "A", "type_id": 0}},
                    {"SpecialToken": {"id": END, "type_id": 0}},
                ],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {END: {"id": END, "ids": [260], "tokens": [END]}},
            },
        ),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True},
    }, []
    yield "roberta", {
        "vocab.json": byte_vocab(*SPECIAL, "<mask>"),
        "merges.txt": merges,
        "tokenizer_config.json": {"tokenizer_class": "RobertaTokenizer"},
    }, []
    words = "\n".join(WORDS) + "\n"
    yield "bert_uncased", {"vocab.txt": words, "tokenizer_config.json": {"tokenizer_class": "BertTokenizer"}}, []
    yield "bert_cased", {
        "vocab.txt": words.replace("\n", "\r\n"),
        "tokenizer_config.json": {
            "tokenizer_class": "BertTokenizerFast",
            "do_lower_case": False,
            "clean_up_tokenization_spaces": True,
        },
    }, []
    yield "bert_config_class", {
        "vocab.txt": words,
        "config.json": {"model_type": "gpt2", "tokenizer_class": "BertTokenizer"},
        "tokenizer_config.json": {"do_lower_case": True, "strip_accents": False, "tokenize_chinese_chars": False},
    }, []
    piece = {
        "type": "WordPiece",
        "unk_token": "[UNK]",
        "continuing_subword_prefix": "@@",
        "max_input_chars_per_word": 9,
        "vocab": {word.replace("##", "@@"): i for i, word in enumerate(WORDS)},
    }
    yield "wordpiece_prefix", {
        "tokenizer.json": whole(
            piece,
            [added("[UNK]", 1), added("[SEP]", 3)],
            pre_tokenizer={"type": "Whitespace"},
            normalizer={
                "type": "BertNormalizer",
                "clean_text": True,
                "handle_chinese_chars": True,
                "strip_accents": None,
                "lowercase": True,
            },
            post_processor={"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            decoder={"type": "WordPiece", "prefix": "@@", "cleanup": False},
        ),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
    }, []
    yield "bert_file", {
        "tokenizer.json": whole(
            {**piece, "continuing_subword_prefix": "##", "vocab": {w: i for i, w in enumerate(WORDS)}},
            [added("[UNK]", 1)],
            decoder={"type": "WordPiece", "prefix": "##", "cleanup": False},
        ),
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizer", "do_lower_case": False},
    }, []
    level = {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {word: i for i, word in enumerate(WORDS)}}
    yield "wordlevel_no_decoder", {
        "tokenizer.json": whole(level, [added("[UNK]", 1)], pre_tokenizer={"type": "WhitespaceSplit"}),
        "tokenizer_config.json": {"tokenizer_class": "MyTokenizer", "clean_up_tokenization_spaces": True},
    }, []
    for scheme in ["always", "first", "never"]:
        yield f"unigram_{scheme}", {
            "tokenizer.json": whole(
                unigram(), SPECIAL_ADDED, pre_tokenizer=meta(scheme=scheme), decoder=meta(scheme=scheme)
            ),
            "tokenizer_config.json": BACKEND,
        }, []
    yield "unigram_fallback_precompiled", {
        "tokenizer.json": whole(
            unigram(True),
            SPECIAL_ADDED,
            pre_tokenizer=meta(),
            normalizer={
                "type": "Sequence",
                "normalizers": [
                    {"type": "Precompiled", "precompiled_charsmap": charsmap()},
                    {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
                ],
            },
            decoder={"type": "Sequence", "decoders": [{"type": "ByteFallback"}, meta()]},
        ),
        "tokenizer_config.json": {**BACKEND, "clean_up_tokenization_spaces": True},
    }, []
    llama = {
        "type": "Sequence",
        "decoders": [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    prepend = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    fallback = bpe(char_vocab(True), CHAR_MERGES, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    yield "llama_like", {
        "tokenizer.json": whole(fallback, SPECIAL_ADDED, normalizer=prepend, decoder=llama),
        "tokenizer_config.json": BACKEND,
    }, []
    fused = {
        "type": "Sequence",
        "decoders": [
            {"type": "ByteFallback"},
            {"type": "Fuse"},
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "Strip", "content": " ", "start": 1, "stop": 0},
        ],
    }
    yield "fused_first", {
        "tokenizer.json": whole(fallback, SPECIAL_ADDED, pre_tokenizer=meta(), decoder=fused),
        "tokenizer_config.json": BACKEND,
    }, []
    letters = char_vocab(False)
    suffix = {**letters, **{f"{c}</w>": len(letters) + i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz,.!'")}}
    suffix["he</w>"] = len(suffix)
    yield "bpe_suffix", {
        "tokenizer.json": whole(
            bpe(suffix, [("h", "e</w>")], unk_token="<unk>", end_of_word_suffix="</w>"),
            SPECIAL_ADDED,
            normalizer={"type": "Lowercase"},
            pre_tokenizer={"type": "BertPreTokenizer"},
            decoder={"type": "BPEDecoder", "suffix": "</w>"},
        ),
        "tokenizer_config.json": BACKEND,
    }, []
    prefix = {**letters, **{f"##{c}": len(letters) + i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz")}}
    yield "bpe_prefix", {
        "tokenizer.json": whole(
            bpe(prefix, [("h", "##e")], unk_token="<unk>", continuing_subword_prefix="##"),
            SPECIAL_ADDED,
            pre_tokenizer={"type": "Whitespace"},
            decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        ),
        "tokenizer_config.json": BACKEND,
    }, []
    flags = [
        *SPECIAL_ADDED,
        added("<mask>", 300, lstrip=True, rstrip=True),
        added("Hen", 301, special=False, normalized=True),
        added("in", 302, single_word=True, special=False),
    ]
    yield "added_flags", {
        "tokenizer.json": whole(
            unigram(), flags, normalizer={"type": "Lowercase"}, pre_tokenizer=meta(), decoder=meta()
        ),
        "tokenizer_config.json": {**BACKEND, "split_special_tokens": False},
    }, ["<mask>"]
    ctc = {"type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "▁", "cleanup": True}
    yield "ctc", {
        "tokenizer.json": whole(
            bpe(char_vocab(False), CHAR_MERGES, unk_token="<unk>"),
            SPECIAL_ADDED[:3],
            pre_tokenizer=meta(scheme="first"),
            decoder=ctc,
        ),
        "tokenizer_config.json": {"tokenizer_class": "TokenizersBackend"},
    }, []
    strips = {
        "type": "Sequence",
        "decoders": [
            {"type": "Strip", "content": "n", "start": 0, "stop": 1},
            {"type": "Replace", "pattern": {"Regex": "[ei]n?"}, "content": "*"},
            {"type": "Strip", "content": "*", "start": 2, "stop": 0},
        ],
    }
    cut = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "UnicodeScripts"},
            {"type": "CharDelimiterSplit", "delimiter": "o"},
            {"type": "FixedLength", "length": 5},
            {"type": "Punctuation", "behavior": "MergedWithPrevious"},
            {"type": "Split", "pattern": {"Regex": "[aeiou](?=[a-z])"}, "behavior": "MergedWithNext", "invert": False},
        ],
    }
    yield "strips_and_splits", {
        "tokenizer.json": whole(
            {k: v for k, v in bpe(char_vocab(False), CHAR_MERGES, unk_token="<unk>").items() if k != "type"},
            SPECIAL_ADDED,
            normalizer={"type": "Strip", "strip_left": True, "strip_right": False},
            pre_tokenizer=cut,
            decoder=strips,
        ),
        "tokenizer_config.json": {"tokenizer_class": "TokenizersBackend"},
    }, []
    yield "level_then_strip", {
        "tokenizer.json": level_file(
            decoder={
                "type": "Sequence",
                "decoders": [
                    {"type": "Replace", "pattern": {"String": "Ġ"}, "content": "ĠĠ"},
                    LEVEL,
                    {"type": "Replace", "pattern": {"String": "  t"}, "content": " t"},
                    {"type": "Strip", "content": " ", "start": 2, "stop": 0},
                ],
            }
        ),
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast"},
    }, []
    old = {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}
    yield "metaspace_of_old", {
        "tokenizer.json": whole(unigram(), SPECIAL_ADDED, pre_tokenizer=old, decoder=old),
        "tokenizer_config.json": BACKEND,
    }, []
    yield "no_unknown_token", {
        **gpt2,
        "tokenizer_config.json": {
            "tokenizer_class": "GPT2Tokenizer",
            "unk_token": None,
            "bos_token": "<s>",
            "eos_token": None,
            "image_token": "<mask>",
            "extra_special_tokens": {"own_token": "</s>"},
        },
    }, []
    holes = {token: i + (i > 100) * 7 for token, i in byte_vocab(END).items()}
    yield "holes", {"vocab.json": holes, "merges.txt": merges}, []
    yield "holes_and_added", {"vocab.json": holes, "merges.txt": merges, "added_tokens.json": {"<|user|>": 268}}, [
        "<|user|>"
    ]
    yield "split_special", {
        "tokenizer.json": level_file(),
        "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "split_special_tokens": True},
    }, []


def main():
    for name, files, warns in cases():
        folder = HERE / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        files = {"config.json": {"model_type": "gpt2"}, **files}
        for file, content in files.items():
            text = (
                content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, separators=(",", ":"))
            )
            (folder / file).write_text(text, encoding="utf-8", newline="")
        tokenizer = AutoTokenizer.from_pretrained(folder)
        rng = random.Random(name)
        encode = [{"text": text, "ids": tokenizer(text)["input_ids"]} for text in TEXTS]
        known = [i for i in range(len(tokenizer) + 5) if tokenizer.convert_ids_to_tokens(i) is not None]
        lists = [case["ids"] for case in encode] + [rng.choices(known, k=rng.randint(1, 12)) for _ in range(12)]
        decode = [{"ids": ids, "text": tokenizer.decode(ids, skip_special_tokens=True)} for ids in lists]
        expected = {"tokenizer_warns": warns, "encode": encode, "decode": decode}
        if not warns:
            expected["warns"] = False
        lines = json.dumps(expected, ensure_ascii=False, separators=(",", ":")).replace('},{"', '},\n{"')
        (folder / "expected.json").write_text(lines + "\n", encoding="utf-8")
        if name == "bert_cased":
            assert "\r" in (folder / "vocab.txt").read_bytes().decode()


if __name__ == "__main__":
    main()
