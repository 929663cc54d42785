"""The prose of the code and the pages: openings of docstrings, and phrases that native readers stumble over."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = ("stii_jax", "configs", "launch", "tests")
TEXTS = ("stii_jax", "configs", "launch", "colabs", "README.md", "docs")
SUFFIXES = {".py", ".md", ".sh", ".yaml", ".html", ".js", ".css"}

FRAGMENTS = {
    "Of": "name the thing: 'Bounds on the object centres', not 'Of the objects' centres'",
    "What": "use the noun: 'The logged metrics', not 'What was logged'",
    "Which": "use the noun, or an imperative verb",
    "Whether": "write 'True if ...'",
    "How": "use the noun: 'Number of ...', or an imperative verb",
    "Where": "use the noun: 'Path of ...', 'Position in ...'",
    "Those": "name the things",
    "Likewise": "say it again, or write 'See ...'",
    "That which": "use the noun",
}
"""Openings that no docstring may have, and the remedy."""

VERBS = """
    add align append apply ask assign average begin build call carry cast change check choose clip collect compare
    compile complete compute convert copy count create cut decide decode decompose delete describe display divide do
    download draw drop encode end estimate evaluate examine exchange execute expand explain export extract fetch
    fill filter find finish fit flip follow generate get give go group guess have hold infer initialise
    insert invert join keep kill label leave let limit list load lock log look make map mark mask match measure
    merge mix move name normalise note number open order pack pad paint parse pass paste pick place plot pool
    predict prepare print produce put quantise raise rank read record reduce refine refuse register remove rename
    render repeat replace report reset resize resolve restore resume return rewrite rotate run sample save say scale
    score search select send set share shift shorten show shuffle simulate skip smooth sort split stack start stitch
    stop store subtract sum switch take tell test time trace track train transform traverse trim truncate try turn
    undo unpack update upload use validate wait warn watch weigh write yield
"""
"""Verbs that may open a docstring in the imperative."""

ALSO_NOUNS = """
    Averages Changes Checks Clips Copies Counts Cuts Displays Draws Drops Ends Estimates Exchanges Exports Fits
    Groups Guesses Joins Labels Limits Lists Locks Logs Maps Marks Masks Matches Measures Moves Names Notes Numbers
    Orders Places Plots Ranks Records Repeats Reports Runs Samples Scales Scores Searches Sets Shares Shifts Sorts
    Splits Stacks Starts Steps Stops Sums Switches Tests Times Traces Tracks Turns Updates
"""
"""Third-person forms that are also plural nouns, which may open a docstring as `Scores of ...` or `Masks, ...`."""
AFTER_A_NOUN = "of for in per that on at and or with from to over between relative left as are whose by"

_AMOUNTS = "(?:seconds|ms|minutes|hours|bytes|[kMG]B|cells|nats|steps|clips|pixels|videos|frames|values)"
_THINGS = "(?:line|row|column|panel|key|process|task|device|vector|bar|mixture|colour|number|file|point|value)"
_UNITS = (
    "(?:second|minute|hour|frame|step|video|clip|slot|device|core|pixel|channel|run|object|cell|batch|side|node|machine"
    "|GPU|point|metric|factor|dimension|seed|component)"
)
_NO_VERB = "(?! (?:has|have|is|was|can|shows?|needs?|takes?|gets?|holds?|may|must|does)\\b)"
PHRASES = {
    # Rule 2: the noun, not a clause that stands in for it.
    r"what was (?:logged|drawn|said|seen|asked)": "use the noun: 'the logged metrics'",
    r"what is done with": "use the noun: 'the modes of ...'",
    r"whatever there is of": "use the noun",
    # Rule 3: the field's term.
    r"(?:take|takes|taken|taking|took) (?:[\w'-]+ ){0,4}apart": "write 'decompose' or 'segment'",
    r"in the place of": "write 'instead of'",
    r"tells (?:what|which|how|whether|why|where|when|its|of)": "write 'reports', 'shows' or 'explains'",
    r"held out (?:videos?|frames?|clips?|data|images?|objects?)": "write 'held-out'",
    r"hyper-parameters?": "write 'hyperparameter'",
    r"imagin(?:e|es|ed|ing|ation)": "write 'predict'",
    r"to mend": "write 'to fix'",
    r"\w+'s to (?:mend|say|judge|read|know|decide|choose|tell|fix|give)": "make the owner the subject",
    r"(?:one|two|three|four|five|ten|\d+|a|an|some) (?:frames?|slots?|steps?|videos?|objects?|balls?) more(?! than)": (
        "write 'ten more frames'"
    ),
    # Rule 6: "per" for rates, unless "a" begins a relative clause: "the frames a video has".
    rf"{_AMOUNTS} an? {_UNITS}{_NO_VERB}": "write 'per'",
    rf"(?:a|one) {_THINGS} an? {_UNITS}{_NO_VERB}": "write 'one line per frame'",
}
"""Regular expressions of phrases that no text may have, and the remedy. A space matches a line break, too."""


def third_person(verb: str) -> str:
    irregular = {"have": "Has", "do": "Does", "go": "Goes"}
    if re.search(r"(?:s|sh|ch|x|z)$", verb):
        return f"{verb}es".capitalize()
    regular = f"{verb[:-1]}ies" if re.search(r"[^aeiou]y$", verb) else f"{verb}s"
    return irregular.get(verb, regular.capitalize())


IMPERATIVES = {third_person(verb): verb.capitalize() for verb in VERBS.split()}


DESCRIBED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def docstrings(tree: ast.Module):
    """Yield the node that each docstring describes, its line and its text: of modules, classes, functions, attributes.

    The docstring of an attribute is a string right after its assignment.
    """
    for node in ast.walk(tree):
        described = node if isinstance(node, DESCRIBED) else None
        body = getattr(node, "body", ())
        for statement in body if isinstance(body, list) else ():  # the body of a lambda is one expression
            match statement:
                case ast.Expr(value=ast.Constant(value=str(text))) if described is not None:
                    yield described, statement.lineno, text
            described = statement if isinstance(statement, ast.Assign | ast.AnnAssign) else None


def opening_problem(text: str, is_function: bool) -> str:
    """Return what is wrong with the first words of a docstring, or ""."""
    words = text.split()
    opening = re.sub(r"\W+$", "", words[0]) if words else ""
    for fragment, remedy in FRAGMENTS.items():
        if re.match(rf"{fragment}\b(?!')", " ".join(words[:2])):
            return f"opens with {fragment!r}: {remedy}"
    if is_function and opening in IMPERATIVES:
        ends = len(words) == 1 or not words[0].isalpha()
        is_noun = opening in ALSO_NOUNS.split() and (ends or words[1] in AFTER_A_NOUN.split())
        if not is_noun:
            return f"opens with {opening!r}: write {IMPERATIVES[opening]!r}"
    return ""


def opening_problems(path: Path, root: Path = ROOT) -> list[str]:
    """Return a line for each docstring of a file that opens badly."""
    name = path.relative_to(root)
    in_package = name.parts[0] == "stii_jax"
    problems = []
    for node, line, text in docstrings(ast.parse(path.read_text())):
        is_function = in_package and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if problem := opening_problem(text, is_function):
            problems.append(f"{name}:{line}: {problem}")
    return problems


PATTERNS = {
    re.compile(rf"(?<![\w-])(?:{phrase})(?!\w)".replace(" ", " +"), re.IGNORECASE): remedy
    for phrase, remedy in PHRASES.items()
}
BREAK = re.compile(r"\"?\n[ \t]*(?:# ?|f?\")?")
"""A line break within a paragraph, a comment, or a string in several parts."""


def phrase_problems(path: Path, root: Path = ROOT) -> list[str]:
    """Return a line for each banned phrase of a file."""
    text, name = path.read_text(), path.relative_to(root)
    joined = BREAK.sub(lambda match: " " * len(match[0]), text)  # as long as the text, so that positions stay
    found = [(match, remedy) for pattern, remedy in PATTERNS.items() for match in pattern.finditer(joined)]
    problems = []
    for match, remedy in sorted(found, key=lambda pair: pair[0].start()):
        line = text.count("\n", 0, match.start()) + 1
        problems.append(f"{name}:{line}: {' '.join(match[0].split())!r}: {remedy}")
    return problems


def texts(top: str) -> list[Path]:
    path = ROOT / top
    if path.is_file():
        return [path]
    suffixes = {".py"} if top == "colabs" else SUFFIXES
    return sorted(file for file in path.rglob("*") if file.suffix in suffixes)


@pytest.mark.parametrize("folder", CODE)
def test_docstrings_open_with_the_thing_or_a_verb(folder):
    problems = [problem for path in sorted((ROOT / folder).rglob("*.py")) for problem in opening_problems(path)]
    assert not problems, "\n".join([f"{len(problems)} docstrings:", *problems])


@pytest.mark.parametrize("top", TEXTS)
def test_phrases_are_those_of_the_field(top):
    problems = [problem for path in texts(top) for problem in phrase_problems(path)]
    assert not problems, "\n".join([f"{len(problems)} phrases:", *problems])


BAD = '''"""What a sweep is."""

size: int
"""Of the objects."""


class Masks:
    """Whether there are masks."""

    side = 2
    """Two pixels a side."""


def mean(values):
    """Returns the mean."""

    async def inner():
        """Scores what was logged
        in the place of a table."""
'''


def test_the_checks_notice_what_they_are_for(tmp_path):
    folder = tmp_path / "stii_jax"
    folder.mkdir()
    (folder / "bad.py").write_text(BAD)
    openings = opening_problems(folder / "bad.py", tmp_path)
    assert sorted(re.findall(r"^stii_jax/bad\.py:(\d+): opens with '(\w+)'", "\n".join(openings), re.M)) == [
        ("1", "What"),
        ("15", "Returns"),
        ("18", "Scores"),
        ("4", "Of"),
        ("8", "Whether"),
    ]
    phrases = phrase_problems(folder / "bad.py", tmp_path)
    assert [": ".join(line.split(": ")[:2]) for line in phrases] == [
        "stii_jax/bad.py:11: 'pixels a side'",
        "stii_jax/bad.py:18: 'what was logged'",
        "stii_jax/bad.py:19: 'in the place of'",
    ]
    (folder / "comment.py").write_text('# Videos are taken\n# apart.\nraise E("One key "\n    f"a video")\n')
    assert len(phrase_problems(folder / "comment.py", tmp_path)) == 2


@pytest.mark.parametrize(
    "text",
    [
        "The scores of all videos.",
        "Return the scores.",
        "Scores of all videos.",
        "Masks, one per slot.",
        "Offset of the first frame.",
        "True if there are masks.",
        "",
    ],
)
def test_a_good_opening_passes(text):
    assert not opening_problem(text, is_function=True)


@pytest.mark.parametrize(
    ("verb", "expected"),
    [("try", "Tries"), ("display", "Displays"), ("match", "Matches"), ("have", "Has"), ("go", "Goes")],
)
def test_third_person(verb, expected):
    assert third_person(verb) == expected
