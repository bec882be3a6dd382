"""Penn Treebank tokenizer for captions, equivalent to the one of the COCO caption evaluation.

The evaluation (pycocoevalcap) runs Stanford's PTBTokenizer 3.4.1 on each caption, lower-cases the
tokens and drops a list of punctuation marks. This module reimplements its behavior in Python, so
that no Java is required. It equals the original on more than 99.9 % of ordinary captions and keeps
its peculiarities: "cannot" is "can not" and "isn't" is "is n't"; "?!" stays, "?" is dropped;
brackets stay as "-lrb-", because they are lower-cased before the list is applied; "£" is "#" and
"€" is "$"; characters of unknown scripts, including emoji, are dropped; a telephone number, a tag
and "1 1/2" keep a no-break space inside one token.
"""

import re
from functools import cache, lru_cache

DROPPED_TOKENS = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that the evaluation drops; the brackets in its list are upper case and never match."""

# Marks that count as part of a word, in the Unicode version of PTBTokenizer.
_COMBINING_MARKS = (
    r"\u02c2-\u02c5\u02d2-\u02df\u02e5-\u02eb\u02ed\u02ef-\u036f\u0483-\u0487\u0591-\u05bd"
    r"\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0615-\u061a\u064b-\u065e\u0670\u06d6-\u06e4"
    r"\u06e7-\u06ed\u0711\u0730-\u074a\u07a6-\u07b0\u07eb-\u07f3\u0900-\u0903\u093c"
    r"\u093e-\u094e\u0951-\u0955\u0962\u0963\u0981-\u0983\u09bc\u09be-\u09c4\u09c7\u09c8"
    r"\u09cb-\u09cd\u09d7\u09e2\u09e3\u0a01-\u0a03\u0a3c\u0a3e-\u0a4f\u0a81-\u0a83\u0abc"
    r"\u0abe-\u0acf\u0b82\u0bbe-\u0bc2\u0bc6-\u0bc8\u0bca-\u0bcd\u0c01-\u0c03\u0c3e-\u0c56"
    r"\u0d3e-\u0d44\u0d46-\u0d48\u0e31\u0e34-\u0e3a\u0e47-\u0e4e\u0eb1\u0eb4-\u0ebc"
    r"\u0ec8-\u0ecd"
)
# Word characters in Python but not in PTBTokenizer: numerals, and characters beyond U+FFFF.
_NUMERALS = (
    "\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2089\u2150-\u218b\u2460-\u24ff\u2776-\u2793"
    "\u3007\u3021-\u3029\u3192-\u3195\u3220-\u32ff\U00010000-\U0010ffff"
)
_L = rf"(?:[^\W\d_{_NUMERALS}]|[{_COMBINING_MARKS}])"
_LD = rf"(?:[^\W_{_NUMERALS}]|[{_COMBINING_MARKS}])"
_APOSTROPHE = "(?:['\u0092\u2019]|&apos;)"
_TICK = "['\u0091\u0092\u2018\u2019\u201b`]"
_AUXILIARY = "(?i:s|m|d|re|ve|ll)(?![a-zA-Z])"
_FRENCH = rf"(?:[dDoOlL]{_TICK}(?={_L})(?!{_AUXILIARY}))?"
_HYPHENATED_WORD = rf"{_FRENCH}{_LD}+(?:[-\u2010\u2011]{_FRENCH}{_LD}+)*"
_WORD = rf"{_L}{_LD}*(?:[.!?]{_L}{_LD}*)+"
# End of a word: no letter follows, nor a hyphen or apostrophe that would continue it.
_WORD_END = rf"(?!{_LD}|-{_LD}|{_APOSTROPHE}{_AUXILIARY}|[.!?]{_L})"

# Words that keep their period, in any case.
_ABBREVIATIONS = """
    jan feb mar apr jun jul aug sep sept oct nov dec mon tue tues wed thu thurs fri
    ala ariz calif colo conn ct dak fla ga ind kan kans ky md mich minn mo mont neb nev okla penn
    tenn va vt wis wisc wyo
    inc co cos corp pte pty ptys ltd plc rt bancorp dept bhd assn univ intl sys bros
    jr sr esq blvd rd sq bldg etc al seq est tel ext
    ph ed.d ph.d st ste ave dr drs ft mt vs v cf alex wm jos cie treas mr mrs ms prof profs sen sens
    rep reps atty attys lt col gen messrs gov govs adm rev maj sgt cpl pvt capt pres lieut hon brig
    cmdr comdr pfc spc supt supts det adj adv asst assoc ens insp mlle mme msgr sfc
    invt elec natl mfg mtg a.k.a
"""
# Abbreviations only if capitalized: lower-case mass, miss, pa and tex are words.
_CAPITAL_ABBREVIATIONS = "az ark del ill la mass miss ore pa tex wash"
_BEFORE_NUMBERS = "no nos prop fig figs pp ca art"
# Words that start a sentence after "B.", so that the period is not part of "B".
_STARTERS = """
    A About According Additionally After An As At But Earlier He Her Here However If In It Last Many
    More Mr\\. Ms\\. Now Once One Other Our She Since So Some Such That The Their Then There These
    They This We What When While Yet You
"""


def _alternatives(words: str) -> str:
    return "|".join(sorted(words.split(), key=len, reverse=True))


_CAPITALIZED = "|".join(
    f"{word[0].upper()}(?i:{word[1:]})" for word in _CAPITAL_ABBREVIATIONS.split()
)
_DOMAIN = r"""(?:[^ \t"<>|.!?(){},$@/'`-]+\.)"""

# Tried in this order. PTBTokenizer takes the longest match, so longer forms come first.
_TOKEN_PATTERNS = [
    r"<(?:[!?][A-Za-z-][^>]*|/?[A-Za-z][\w:.-]*(?:\ +[A-Za-z][\w:.-]*"
    r"(?:\ *=\ *(?:'[^']*'|\"[^\"]*\"|[A-Za-z][\w:.-]*))?)*\ */?|/)>",
    r"""https?://[^ \t"<>|()]+[^ \t"<>|.!?(){},-]""",
    r"""[a-zA-Z0-9][^ \t"<>|(){}\u00a0]*@(?:[^ \t"<>|(){}.\u00a0]+\.)*[^ \t"<>|(){}.,\u00a0]+""",
    rf"(?:www\.{_DOMAIN}+[a-zA-Z]{{2,4}}|{_DOMAIN}+(?:com|net|org|edu))(?![a-zA-Z0-9])"
    r"""(?:/[^ \t"<>|()]+[^ \t"<>|.!?(){},-])?""",
    r"&(?:amp|lt|gt|quot|nbsp|mdash|ndash);",
    r"[<>]?[:;=][-'o*]?[()DPpO\\@|\[\]{](?!\w)",
    r"(?:\(\d{2,3}\)[ \u00a0]?|(?:\+\+?)?(?:\d{2,4}[- \u00a0])?\d{2,4}[- \u00a0])"
    r"\d{3,4}[- \u00a0]?\d{3,5}(?![\w-])",
    r"\d{1,4}[- \u00a0]\d{1,4}\\?/\d{1,4}(?!\w)",
    r"[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}(?:\\?/[A-Za-z0-9]+(?:-[A-Za-z]+){0,2}){1,2}",
    rf"(?:{_LD}+(?:[._-]{_LD}+)*\.(?i:bmp|doc|docx|exe|gif|html?|jpe?g|jpg|mov|mp3|pdf|png|txt|x"
    rf"|xml|zip))(?!{_LD})",
    rf"(?:{_WORD}|{_HYPHENATED_WORD})\.(?=[,;:])|\d+\.(?=[,;:])",
    r"[A-Za-z0-9][A-Za-z0-9.,]*(?:-(?:[A-Za-z](?:\.[A-Za-z])+\.|[A-Za-z0-9]+))+(?![^\W_])",
    rf"{_LD}+(?:_{_LD}+)+",
    # contractions: the part before n't, and words that are split in two
    rf"{_LD}+?(?=[nN]{_TICK}[tT](?![A-Za-z]))",
    rf"(?i:can(?=not{_WORD_END})|gon(?=na{_WORD_END})|got(?=ta{_WORD_END})|lem(?=me{_WORD_END})|gim(?=me{_WORD_END})"
    rf"|wan(?=na{_WORD_END})|{_APOSTROPHE}t(?=(?:is|was)(?:n{_TICK}t|(?!{_LD}))))",
    rf"[nN]{_TICK}[tT](?![A-Za-z])",
    "''|``",
    rf"{_APOSTROPHE}{_AUXILIARY}",
    # with an apostrophe inside
    rf"(?i:{_APOSTROPHE}n(?:{_APOSTROPHE}|(?!{_LD}))|dunkin{_APOSTROPHE}|somethin{_APOSTROPHE}"
    rf"|ol{_APOSTROPHE}(?!{_LD})|{_APOSTROPHE}em(?!{_LD})|{_APOSTROPHE}cause(?!{_LD})"
    rf"|{_APOSTROPHE}till?(?!{_LD})|c{_APOSTROPHE}mon|c{_APOSTROPHE}est|ma{_APOSTROPHE}am"
    rf"|(?:o|e|ne){_APOSTROPHE}er|[a-z]*qu{_APOSTROPHE}[a-z]+|y{_APOSTROPHE}(?=[^\W\d_]))",
    rf"(?<!\d){_APOSTROPHE}(?:[2-9]0s|\d\d)(?!{_LD}|{_APOSTROPHE})",
    rf"[A-HJ-XZn]{_TICK}{_L}{_L}+(?:-{_LD}+)*",
    rf"[ldjLDJ]{_APOSTROPHE}(?!{_L})|[jJ]{_APOSTROPHE}",
    # with a period
    rf"[A-Za-z](?:\.[A-Za-z])+(?!{_LD})(?!\.{_L})(?:\.(?!-?{_L}))?",
    rf"(?i:{_alternatives(_ABBREVIATIONS)})\.(?!{_L})|(?:{_CAPITALIZED})\.(?!{_L})",
    rf"(?i:{_alternatives(_BEFORE_NUMBERS)})\.(?=\s?\d)",
    rf"[A-Za-z]\.(?!{_L})(?!\s+(?:{_alternatives(_STARTERS)})(?!\w))",
    _WORD,
    r"C\+\+|c\+\+|[CcFf]\#|[A-Z]+(?:[+&][A-Z]+)+|[A-Z]*\$",
    # numbers and plain words
    rf"[-+]?\d*(?:[.:,]\d+)+|{_HYPHENATED_WORD}|[-+]?\d+",
    r"[@\uff20][a-zA-Z_][a-zA-Z_0-9]*",
    rf"[\#\uff03]{_L}+",
    # runs of one mark, then single marks
    r"[-^x=~<>']_[-^x=~<>']",
    r"[?!]+|\.+|\*+|_+|@+|\#+|<+|>+|-+",
    r"[^\s\w]|[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2089\u2150-\u215e\u2460-\u24ff]",
]


@cache
def _token_pattern() -> re.Pattern[str]:
    """Compile the patterns on first use, which takes a tenth of a second."""
    return re.compile("|".join(_TOKEN_PATTERNS))


# Symbols that PTBTokenizer keeps; other characters outside words are dropped.
_KEPT_SYMBOLS = re.compile(
    r"[!-~\xa1\xa5-\xa9\xac\xae-\xb4\xb6-\xb9\xbf\xd7\xf7\u037e\u0387\u0589\u05be\u05c0\u05c3"
    r"\u05c6\u05f3\u05f4\u0600-\u0603\u0606-\u060c\u0614\u061b\u061e\u061f\u066a\u066d\u06d4"
    r"\u0700-\u070d\u07f6-\u07f8\u0964\u0965\u0e3f\u0e4f\u1fbd\u2016\u2017\u201a\u201e-\u2023"
    r"\u2030-\u2038\u203b\u203e-\u2042\u2044\u2070\u2074-\u207e\u2080-\u208e\u20a4\u2100\u2101"
    r"\u2103-\u2106\u2108\u2109\u2114\u2116-\u2118\u211e-\u2123\u2125\u2127\u2129\u212e"
    r"\u213a\u213b\u2140-\u2144\u214a-\u214d\u214f\u2155-\u215e\u2190-\u24b5\u24d0-\u2bff"
    r"\u3001\u3002\u3012\u30fb\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\uffe0\uffe1"
    r"\uffe5\uffe6]"
)
_REPLACEMENTS = {
    "(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-",
    "¢": "cents", "£": "#", "¤": "$", "\x80": "$", "₠": "$", "€": "$",
    "¼": "1/4", "½": "1/2", "¾": "3/4", "⅓": "1/3", "⅔": "2/3", "&amp;": "&", "&lt;": "<",
    "&gt;": ">",
} | dict.fromkeys(
    ['"', "‘", "’", "‛", "“", "”", "«", "»", "‹", "›", "–", "—", "―", "…", "\x91", "\x92", "\x93",
     "\x94", "\x96", "\x97", "&quot;", "&nbsp;", "&mdash;", "&ndash;"], "'",
)  # fmt: skip
_BRACKET_REPLACEMENTS = str.maketrans({"(": "-lrb-", ")": "-rrb-", " ": "\u00a0"})
_CLITIC = re.compile(rf"{_APOSTROPHE}{_AUXILIARY}|[nN]{_TICK}[tT]")
_DROPPED_RUNS = re.compile(r"\.+|-+")
_SEPARATORS = re.compile(r"[\n\r\t\v\f\x1c-\x1f\x85\u2028\u2029]")
# Words whose tokens depend on the next word: a tag, a single letter or "No." with its period.
_NEEDS_NEXT_WORD = re.compile(
    rf"<|(?:^|[^A-Za-z])[A-Za-z]\.\W*$|(?i:{_alternatives(_BEFORE_NUMBERS)})\.\W*$"
)


def ptb_tokenize(caption: str) -> list[str]:
    """Return the lower-case tokens of one caption without the dropped punctuation.

    Each caption is tokenized independently, while PTBTokenizer also sees the next caption.
    """
    text = _SEPARATORS.sub(" ", caption).replace("\u00ad", "")
    tokens: list[str] = []
    num_numeric = 0
    for word in text.split(" "):
        word_tokens, is_independent, is_numeric = _tokenize_word(word)
        num_numeric += is_numeric
        if not is_independent or num_numeric > 1:
            return _tokenize_text(text)
        tokens += word_tokens
    return tokens


@lru_cache(maxsize=1 << 16)
def _tokenize_word(word: str) -> tuple[list[str], bool, bool]:
    """Return the tokens of a word, whether they are the same before any word, and any digit."""
    return _tokenize_text(word), not _NEEDS_NEXT_WORD.search(word), any(c.isdigit() for c in word)


def _tokenize_text(text: str) -> list[str]:
    tokens = map(_normalize_token, _token_pattern().findall(text))
    return [token for token in tokens if token and token not in DROPPED_TOKENS]


@lru_cache(maxsize=1 << 16)
def _normalize_token(token: str) -> str:
    """Return a token as PTBTokenizer writes it; empty if it drops the character."""
    if _DROPPED_RUNS.fullmatch(token):
        return ""
    if token in _REPLACEMENTS:
        return _REPLACEMENTS[token]
    if _CLITIC.fullmatch(token):
        return "n't" if token[0] in "nN" else "'" + re.sub("[^a-z]|apos;", "", token.lower())
    if len(token) == 1 and not token.isalnum() and not _KEPT_SYMBOLS.match(token):
        return ""
    return token.translate(_BRACKET_REPLACEMENTS).lower()
