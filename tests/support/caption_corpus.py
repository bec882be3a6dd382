"""Made-up captions: ordinary ones as people write them, and traps for a tokenizer."""

import random
from collections.abc import Callable

_NOUNS = """
    man woman boy girl dog cat horse bus train car street kitchen table plate pizza bowl bench park
    beach wave surfboard skateboard bat ball umbrella clock tower sign building tree bird elephant
    giraffe zebra bear sheep cow laptop phone keyboard couch bed toilet sink mirror window cake
    sandwich banana vase bike motorcycle truck boat plane kite field court net racket helmet shirt
    tie suit hat bag suitcase child baby person group t-shirt fire-hydrant stop-sign
"""
_ADJECTIVES = """
    red blue green black white brown small large big little old tall wooden empty busy crowded wet
    snowy grassy open half-eaten black-and-white two-story close-up well-lit multi-colored
    old-fashioned double-decker
"""
_VERBS = """
    sitting standing walking riding holding eating wearing looking playing jumping flying driving
    waiting talking smiling cutting cooking
"""
NOUNS, ADJECTIVES, VERBS = _NOUNS.split(), _ADJECTIVES.split(), _VERBS.split()
PREPOSITIONS = [
    "on",
    "in",
    "near",
    "next to",
    "under",
    "behind",
    "beside",
    "by",
    "with",
    "in front of",
]
DETERMINERS = ["a", "an", "the", "A", "The", "his", "her", "their", "some"]

PhraseSampler = Callable[[random.Random], str]


def random_caption(rng: random.Random, extra_counts: tuple[int, ...] = (0, 0, 1, 1, 2)) -> str:
    """Write a caption of one sentence, with some of `EXTRAS` at the end."""
    verb = rng.choice(["is ", "are ", "was ", ""]) + rng.choice(VERBS)
    parts = [random_noun_phrase(rng), verb, rng.choice(PREPOSITIONS), random_noun_phrase(rng)]
    parts += [rng.choice(EXTRAS)(rng) for _ in range(rng.choice(extra_counts))]
    text = " ".join(parts)
    text = text[0].upper() + text[1:] if rng.random() < 0.8 else text
    return text + rng.choice([".", ".", ".", "", " .", " ", "!", "?", ".."])


def random_noun_phrase(rng: random.Random) -> str:
    adjective = [rng.choice(ADJECTIVES)] if rng.random() < 0.4 else []
    return " ".join([rng.choice(DETERMINERS), *adjective, rng.choice(NOUNS)])


def random_noun(rng: random.Random) -> str:
    return rng.choice(NOUNS)


def choose_from(*texts: str) -> PhraseSampler:
    return lambda chance: chance.choice(texts)


EXTRAS: tuple[PhraseSampler, ...] = (
    lambda c: f"{random_noun_phrase(c)}'s {random_noun(c)}",
    lambda c: f"the {random_noun(c)}s' {random_noun(c)}",
    lambda c: f'a sign that says "{c.choice(["STOP", "no parking", "Main St.", "Open 24 Hours"])}"',
    lambda c: f"({random_noun(c)})",
    lambda c: f"which isn't {c.choice(ADJECTIVES)}",
    lambda c: f"who can't see {random_noun_phrase(c)}",
    lambda c: f"at {c.randint(1, 12)}:{c.randint(10, 59)} {c.choice(['am', 'pm', 'a.m.', 'p.m.'])}",
    lambda c: f"in the {c.choice([1920, 1950, 1980])}s",
    lambda c: f"for ${c.randint(1, 99)}.{c.randint(10, 99)}",
    lambda c: f"for {c.randint(1, 99)}%",
    lambda c: f"and {random_noun_phrase(c)}, {random_noun_phrase(c)}, and {random_noun_phrase(c)}",
    lambda c: f"; {random_noun_phrase(c)} is nearby",
    lambda c: f"{c.choice(['-', '--', '–'])} {random_noun_phrase(c)}",
    lambda c: f"{c.choice(['two', '2', '10', '1,000'])} {random_noun(c)}s",
    lambda c: f"{c.randint(1, 9)} and 1/2 {random_noun(c)}s",
    lambda c: f"with the number {c.randint(0, 200)}",
    lambda c: f"in {c.choice(['Washington D.C.', 'the U.S.', 'St. Louis', 'London, England'])}",
    lambda c: f"named {c.choice(['Mr. Smith', 'Dr. Lee', 'Mrs. Brown', 'Bob', 'O’Neill'])}",
    lambda c: f"'{random_noun(c)}'",
    lambda c: f"{random_noun(c)}/{random_noun(c)}",
    lambda c: f"{random_noun(c)} & {random_noun(c)}",
    lambda c: f"{random_noun(c)},{random_noun(c)}",
    lambda c: f"{random_noun(c)}. {random_noun_phrase(c)}",
    lambda c: f"{c.randint(2, 9)}-year-old {random_noun(c)}",
    lambda c: f"he cannot {c.choice(['move', 'see'])}",
    choose_from(
        "it's red", "they're sitting", "that doesn't move", "is gonna jump", "o'clock", "etc."
    ),
    choose_from(
        "on a T-shirt", "café table", "man’s best friend", "let’s play “ball”", "a mid-air flip"
    ),
    choose_from("the 3rd floor", "a 4x4 truck", "flight No. 12", "#7", "an iPhone 6", "..."),
)

TOKENIZER_EDGE_CASES = tuple(
    line
    for line in r"""
He can't, won't and cannot; I'm gonna gotta wanna lemme gimme.
Cannot CANNOT Gonna gonna's cannots wanna-be cannot-x
the dogs' bowls, 'tis 'twas the '90s, '80 and rock 'n' roll, rock'n'roll
o'clock y'all ma'am d'oh O'Neill's l'amour D'Angelo e'er ne'er
C'mon 'em 'cause 'til ol' somethin' goin'
"quoted" text and ''double'' and ``back`` and `single' and “curly” and ‘one’ and «French»
a 3-year-old's 1/2 pizza 1 1/2 miles, 3.5 inches, 3.5-inch 1,000-foot 5-1/2
at 5:30 p.m. on Jan. 5 at 10 a.m. Mr. Smith and Dr. No vs. Mrs. X.
St. Louis, Mt. Fuji, Ave. and Inc. etc. 6 ft. tall 6 in. tall No. 5 no. five fig. 3 Fig. a
$5.00 £5 €5 5¢ US$5 10% #5 #hashtag2020 @user user@mail.com http://a.com/x.html. www.foo.com foo.com
(555) 123-4567 555-1234 (a) [x] {y} <b> <br /> <a href="x"> a < b &amp; & and/or w/ w/o a/b/c/d
hello... hello.. hello…. wait — what – no - yes -- dash --- dash ……
?! !! ??? !?! . . . ! ? what?no wow!man 5!a
A.B. a.b. U.S.A.'s U.K. e.g. i.e. D.C. Ph.D. B.C. non-U.S. U.S.-based J.K. Rowling
vitamin C. size M. grade a. plan B. A man. point A to B. Then X. x B. the
man.; x man., y man.woman a1., x 5., x p.m., x
A man, woman,and child;dog:cat 10:30am 5'10" 6ft 6' 6'2 10'x10' 12:30-1:30
café naïve jalapeño ½ cup 1½ ¼ © ® ™ 25°C x² H₂O
C++ C# F# AT&T R&B M&M's B&W black&white A+B a+b 3+3
it'll he'd they've we're I'd've couldn't've don't've isn’t it’s &apos;s
:) :-) ;) :D <3 =) ^_^ :( sign:(5) x:)
a*b a=b a\b a|b ~5 +5 -5 a_b a__b __ ** *** == ## @@ << a-- --a a-
file.jpg image.png 1.jpg a.b.c 1.a.5 5.a x.1 12/25/2010 2010-12-25 1990's
😀 a😀b 👍🏽 man ❤ ☺ → ★ • · 𝐀 soft­hyphen zero​width
日本語テスト 男が道を歩いている。 한 남자가 거리를 걷고 있다. 一个男人走在街上，手里拿着伞。
Мужчина идёт, держа зонт. Ένας άντρας περπατά. Bir adam İstanbul'da
रस्ते पर चलता हुआ एक आदमी। রাস্তায় হাঁটছে ผู้ชายคนหนึ่งกำลังเดิน رجل يمشي، ويحمل גבר הולך
L’homme d’affaires qu'il n'a pas vu s'est assis aujourd'hui à l'église c'est j'ai
Ein Mann läuft über die Straße. Una niña ¿qué? ¡Hola! Mężczyzna Một người đàn ông
""".splitlines()
    if line
)
