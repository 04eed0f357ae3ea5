"""Scenario files: what is read, and what every mistake is told."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scenarios.arrivals import MOST_ARRIVALS
from scenarios.cautions import warnings
from scenarios.loading import header_values, library, library_text, load_scenario, load_targets
from scenarios.scenario import Lengths, Scenario, ScenarioError, Target

WHOLE = """
description = "chat traffic at a steady rate"
seed = 42

[target]
base_url = "http://127.0.0.1:8000/v1"
model = "m"
api = "chat"
api_key_env = "MY_KEY"
headers = { "X-Team" = "env:TEAM" }
price = { input = 0.15, output = 0.6 }

[prompts.synthetic]
input_tokens = { mean = 512, stdev = 64, min = 16, max = 1024 }
shared_prefix_tokens = 128
unique = true

[request]
max_tokens = 128
temperature = 0.0

[load]
executor = "constant-arrival-rate"
rate = 4
arrival = "poisson"
duration = "60s"
warmup = "5s"
max_in_flight = 256
graceful_stop = "30s"
cancel = { share = 0.1, patience = "5s" }

[slo]
ttft = "500ms"
tpot = "50ms"

[thresholds]
ttft_sched = ["p(95)<800ms", "p(99)<2s"]
errors = ["rate<1%"]
"errors{kind:timeout}" = ["count==0"]
"""
CLOSED = "[load]\nconcurrency = 4\nrequests = 10\n"
RAMP = """[load]
executor = "ramping-concurrency"
stages = [{ duration = "5s", target = 8 }]
"""


def load(tmp_path: Path, text: str, *overrides: str) -> Scenario:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return load_scenario(path, overrides)


def refused(tmp_path: Path, text: str, *overrides: str) -> str:
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path, text, *overrides)
    return str(caught.value).replace(str(tmp_path), "DIR")


def test_a_whole_file(tmp_path: Path) -> None:
    scenario = load(tmp_path, WHOLE)
    assert scenario.name == "mine"
    assert (scenario.seed, scenario.target.model, scenario.target.api_key_env) == (42, "m", "MY_KEY")
    assert scenario.prompts.synthetic is not None
    assert scenario.prompts.synthetic.input_tokens == Lengths(mean=512, stdev=64, min=16, max=1024)
    assert scenario.request == {"max_tokens": 128, "temperature": 0.0}
    rate = scenario.load.rate
    assert rate == 4.0
    assert isinstance(rate, float)
    assert (scenario.load.duration_s, scenario.load.warmup_s, scenario.load.is_open) == (60.0, 5.0, True)
    assert scenario.thresholds["ttft_sched"] == ["p(95)<800ms", "p(99)<2s"]


def test_scenarios_share_nothing() -> None:
    one, other = Scenario(), Scenario()
    one.target.model = "m"
    one.load.rate = 3.0
    one.target.headers["X"] = "env:Y"
    assert other == Scenario(target=Target())
    assert other.target.model is None
    assert other.load.rate is None
    assert other.target.headers == {}


def test_paths_are_of_the_file_s_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    text = f'[prompts]\nfile = "p.jsonl"\ntokenizer = "../t.json"\n{CLOSED}'
    (tmp_path / "here" / "s.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    scenario = load_scenario("here/s.toml")
    assert scenario.prompts.file == str(tmp_path / "here" / "p.jsonl")
    assert scenario.prompts.tokenizer == str(tmp_path / "t.json")
    # Those on the command line are of the working directory.
    assert load_scenario("here/s.toml", ["prompts.file=p.jsonl"]).prompts.file == str(tmp_path / "p.jsonl")
    whole = load_scenario("here/s.toml", ["prompts={file='p.jsonl'}"])
    assert whole.prompts.file == str(tmp_path / "p.jsonl")


@pytest.mark.parametrize(
    ("load_part", "executor"),
    [
        ("rate = 2\nduration = 5", "constant-arrival-rate"),
        ("concurrency = 2\nrequests = 5", "constant-concurrency"),
        ('trace = "t.jsonl"', "trace"),
    ],
)
def test_the_executor_follows(tmp_path: Path, load_part: str, executor: str) -> None:
    assert load(tmp_path, f"[load]\n{load_part}\n").load.executor == executor


def test_without_prompts_they_are_made_up(tmp_path: Path) -> None:
    synthetic = load(tmp_path, CLOSED).prompts.synthetic
    assert synthetic is not None
    assert synthetic.input_tokens == 512
    assert load(tmp_path, '[load]\ntrace = "t.jsonl"').prompts.synthetic is None


def replaced(old: str, new: str) -> str:
    assert WHOLE.count(old) == 1, old
    return WHOLE.replace(old, new)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "rate = 4\n",
            "rat = 4\n",
            "load.rat is no key there is; did you mean rate? [load] has executor, rate",
        ),
        ("seed = 42", "sede = 42", "sede is no key there is; did you mean seed? a scenario has name"),
        ("seed = 42", "seed = 4.2", "seed is 4.2; it has to be a whole number"),
        ("seed = 42", "seed = -1", "seed is -1; 0 or more"),
        ("seed = 42", "seed = true", "seed is true; it has to be a whole number"),
        ("seed = 42", f"seed = {2**63}", "it has to be a whole number"),
        ("seed = 42", 'name = "x"', "name is no key: a scenario is called as its file is"),
        ("rate = 4\n", 'rate = "4"\n', 'load.rate is "4"; it has to be a number'),
        ("rate = 4\n", "rate = 0\n", "load.rate is 0; above 0, in requests a second"),
        ("rate = 4\n", "rate = -1.5\n", "load.rate is -1.5; above 0"),
        ("rate = 4\n", "rate = nan\n", "load.rate is nan; it has to be a number"),
        ("rate = 4\n", "", "load.rate is missing; requests a second, as in 4.0"),
        (
            "rate = 4\n",
            "concurrency = 4\n",
            'load.concurrency is for "constant-concurrency"; this executor is',
        ),
        ("rate = 4\n", "rate = 4\nconcurrency = 4\n", "constant-arrival-rate and takes arrival, burstiness"),
        (
            '"constant-arrival-rate"',
            '"constant-concurrency"',
            'load.rate is for "constant-arrival-rate"; this',
        ),
        ('"constant-arrival-rate"', '"ramping-arrival-rate"', "load.rate is for"),
        (
            '"constant-arrival-rate"',
            '"constant-rate"',
            "it has to be one of constant-arrival-rate, constant-conc",
        ),
        ('"constant-arrival-rate"', "7", "load.executor is 7; it has to be one of"),
        (
            '"poisson"',
            '"poison"',
            'load.arrival is "poison"; did you mean poisson? it has to be one of constant',
        ),
        ('duration = "60s"\n', 'duration = "0s"\n', 'load.duration is "0s"; a duration above 0, like "30s"'),
        ('duration = "60s"\n', "duration = 0\n", "load.duration is 0; a duration above 0"),
        ('duration = "60s"\n', 'duration = "-5s"\n', 'load.duration is "-5s"; a duration above 0'),
        ('duration = "60s"\n', 'duration = "1 day"\n', 'load.duration is "1 day"; a duration above 0'),
        (
            'duration = "60s"\n',
            "duration = []\n",
            'load.duration is a list; it has to be a duration like "30s"',
        ),
        (
            'duration = "60s"\n',
            'duration = "60s"\nrequests = 5\n',
            "load.duration is given beside load.requests",
        ),
        ('duration = "60s"\n', "", "load.duration is missing: nothing ends the load; duration ="),
        ('duration = "60s"\n', "requests = 0\n", "load.requests is 0; 1 or more"),
        (
            'warmup = "5s"',
            'warmup = "5s"\nwarmup_requests = 5',
            "load.warmup is given beside load.warmup_requests",
        ),
        ('warmup = "5s"', 'warmup = "soon"', 'load.warmup is "soon"; a duration, like "30s"'),
        ('warmup = "5s"', "warmup_requests = -5", "load.warmup_requests is -5; 0 or more"),
        ("max_in_flight = 256", "max_in_flight = 0", "load.max_in_flight is 0; 1 or more"),
        ('graceful_stop = "30s"', 'graceful_stop = "x"', 'load.graceful_stop is "x"; a duration'),
        (
            "max_in_flight = 256",
            "burstiness = 2",
            'load.burstiness is for arrival = "gamma"; arrival is poisson',
        ),
        ("max_in_flight = 256", "burstiness = 0", "load.burstiness is 0; above 0"),
        (
            "max_in_flight = 256",
            "think_time = 1",
            "load.think_time is for conversations; with prompts.multi_turn",
        ),
        (
            "max_in_flight = 256",
            "stages = []",
            'load.stages is for "ramping-concurrency" or "ramping-arrival-',
        ),
        (', patience = "5s"', "", "load.cancel needs tokens or patience; one of them"),
        (
            ', patience = "5s"',
            ', patience = "5s", tokens = 3',
            "load.cancel has tokens and patience; one of them",
        ),
        ("share = 0.1", "share = 1.1", "load.cancel.share is 1.1; a share from 0 to 1"),
        ("share = 0.1", "share = -0.1", "load.cancel.share is -0.1; a share from 0 to 1"),
        ("share = 0.1, ", "", "load.cancel.share is missing; give a number"),
        ('patience = "5s"', "tokens = 0", "load.cancel.tokens is 0; 1 or more"),
        ('patience = "5s"', "patience = 0", "load.cancel.patience is 0; a duration above 0"),
        (
            "[prompts.synthetic]",
            '[prompts]\nfile = "p"\n[prompts.synthetic]',
            "prompts.file is given beside prompts.s",
        ),
        (
            "[prompts.synthetic]",
            '[prompts]\nformat = "csv"\n[prompts.synthetic]',
            "prompts.format is about a file",
        ),
        (
            "[prompts.synthetic]",
            "[prompts]\noutput_tokens = 5\n[prompts.synthetic]",
            "request.max_tokens is given beside",
        ),
        (
            "[prompts.synthetic]",
            "[prompts]\noutput_tokens = 0\n[prompts.synthetic]",
            "prompts.output_tokens is 0",
        ),
        ("mean = 512", "mean = 5", "prompts.synthetic.input_tokens.mean is 5; from 16 to 1024"),
        ("mean = 512, ", "", "prompts.synthetic.input_tokens.mean is missing; give a number"),
        ("min = 16", "min = 0", "prompts.synthetic.input_tokens.min is 0; 1 or more"),
        ("max = 1024", "max = 15", "prompts.synthetic.input_tokens.max is 15; 16 (the minimum) or more"),
        ("stdev = 64", "stdev = -1", "prompts.synthetic.input_tokens.stdev is -1; 0 or more"),
        ("unique = true", "unique = 1", "prompts.synthetic.unique is 1; it has to be true or false"),
        ("= 128\nunique", "= -1\nunique", "prompts.synthetic.shared_prefix_tokens is -1; 0 or more"),
        ("max_tokens = 128", "max_tokens = 0", "request.max_tokens is 0; a whole number of 1 or more"),
        (
            "max_tokens = 128",
            "messages = []",
            "request.messages is no body field to set; they come from the prompts",
        ),
        (
            "max_tokens = 128",
            "since = 2024-01-01",
            "request.since is a date or time (2024-01-01), which JSON has not",
        ),
        (
            "max_tokens = 128",
            "a = [{ b = inf }]",
            "request.a[0].b is inf, which JSON has not; a finite number",
        ),
        ("max_tokens = 128", f"a = {2**64}", "request.a is too large a number"),
        ('model = "m"', 'model = " "', "target.model is empty"),
        (
            'api = "chat"',
            'api = "chats"',
            'target.api is "chats"; did you mean chat? it has to be one of chat, comp',
        ),
        (
            '"http://127.0.0.1:8000/v1"',
            '"127.0.0.1:8000"',
            "target.base_url is no URL; as in http://127.0.0.1:8000",
        ),
        (
            "output = 0.6",
            "outpt = 0.6",
            "target.price.outpt is no price there is; there are input, cached_input",
        ),
        ("output = 0.6", "output = -1", "target.price.output is -1; 0 or more"),
        (", output = 0.6", "", "target.price.output is missing; per million tokens"),
        (
            'ttft = "500ms"',
            'tttf = "500ms"',
            "slo.tttf is no time a request has; did you mean ttft? There are ttft,",
        ),
        ('ttft = "500ms"', 'itl = "5ms"', "slo.itl is no time a request has; a request has many gaps: tpot"),
        ('ttft = "500ms"', "ttft = 500", 'slo.ttft is 500, without a unit; write "500ms" or "500s"'),
        ('ttft = "500ms"', 'ttft = "500"', "slo.ttft is 500, without a unit"),
        ('ttft = "500ms"', 'ttft = "0ms"', 'slo.ttft is "0ms"; a duration above 0'),
        (
            "ttft_sched =",
            "ttft_shed =",
            "thresholds.ttft_shed cannot be judged: there is no metric 'ttft_shed'; did",
        ),
        (
            '["rate<1%"]',
            '"rate<1%"',
            'thresholds.errors is "rate<1%"; it has to be a list, each text in quotes',
        ),
        (
            '["rate<1%"]',
            '["p(95)<1%"]',
            "thresholds.errors cannot be judged: errors: 'p(95)<1%': errors has no perc",
        ),
        ("errors =", "errrs =", "did you mean errors?"),
        ('["count==0"]', "[]\ncosts = []", "thresholds.costs cannot be judged: there is no metric 'costs'"),
        ("[slo]", "[slos]", "slos is no key there is; did you mean slo?"),
        ("[request]\n", "", "prompts.synthetic.max_tokens is no key there is"),
    ],
)
def test_mistakes(tmp_path: Path, old: str, new: str, said: str) -> None:
    message = refused(tmp_path, replaced(old, new))
    assert message.startswith("DIR/mine.toml: ")
    assert said in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("load = 5", "load is 5; it has to be a table of executor, rate"),
        ("[load]\n", "load.concurrency is missing; how many requests at once, as in 32"),
        ("[load]\nstages = []\n", "load.executor is missing, and stages may be of two kinds"),
        ('[load]\nexecutor = "trace"\n', "load.trace is missing; the file or run directory to replay"),
        ('[load]\ntrace = ""\n', "load.trace is empty"),
        ('[load]\ntrace = "t"\nspeed = 0\n', "load.speed is 0; above 0"),
        (
            '[load]\ntrace = "t"\nrate = 1\nexecutor = "trace"',
            'load.rate is for "constant-arrival-rate"; this executor',
        ),
        (CLOSED + "max_in_flight = 5", "load.max_in_flight is for"),
        (CLOSED.replace("4", "0"), "load.concurrency is 0; 1 or more"),
        (RAMP.replace("{", "#{"), "is not TOML"),
        (RAMP.replace('[{ duration = "5s", target = 8 }]', "[]"), "load.stages is empty; as in"),
        (RAMP + "duration = 5", "load.duration is for"),
        (RAMP + "requests = 5", "load.requests is for"),
        (RAMP.replace("target = 8", "target = 8.5"), "load.stages[0].target is 8.5; a whole number"),
        (RAMP.replace("target = 8", "target = -1"), "load.stages[0].target is -1; 0 or more"),
        (RAMP.replace("target = 8", "target = 0"), "load.stages send nothing"),
        (RAMP.replace('"5s"', '"0s"'), "load.stages send nothing"),
        (RAMP.replace('"5s"', '"5d"'), 'load.stages[0].duration is "5d"'),
        (RAMP.replace('"5s"', '"5s", speed = 2'), "load.stages[0].speed is no key there is"),
        (RAMP + "start = 0.5", "load.start is 0.5; a whole number"),
        (f"[prompts]\nfile = ' '\n{CLOSED}", "prompts.file is empty"),
        (f"[prompts]\nfile = 'p'\nformat = 'sharegtp'\n{CLOSED}", "did you mean sharegpt?"),
        (f"[prompts]\nmulti_turn = true\n{CLOSED}", "prompts.multi_turn is about a file"),
        (f"[prompts]\nforce_output = true\n{CLOSED}", "prompts.force_output has no limit to reach"),
        (
            f"[prompts]\nfile = 'p'\nmulti_turn = true\n{CLOSED}think_time = {{ mean = -1 }}",
            "load.think_time.mean is -1; from 0 on",
        ),
        (f"[prompts]\nfile = 'p'\nmulti_turn = true\n{CLOSED}think_time = 'x'", 'load.think_time is "x"'),
    ],
)
def test_mistakes_of_other_loads(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path, text)


def test_broken_toml_names_the_line(tmp_path: Path) -> None:
    said = refused(tmp_path, "seed = 1\n[load\n")
    assert said.startswith("DIR/mine.toml, line 2, column 6: is not TOML: ")
    assert refused(tmp_path, "seed = 1\na = [").startswith("DIR/mine.toml, line 2: is not TOML: ")


def test_files_that_are_none(tmp_path: Path) -> None:
    for path, said in (
        (tmp_path / "no.toml", "no.toml: cannot be read: No such file"),
        (tmp_path, "cannot be read: Is a directory"),
    ):
        with pytest.raises(ScenarioError, match=said):
            load_scenario(path)
    (tmp_path / "latin.toml").write_bytes(b'description = "caf\xe9"\n')
    with pytest.raises(ScenarioError, match=r"latin.toml: is not UTF-8 text"):
        load_scenario(tmp_path / "latin.toml")
    with pytest.raises(ScenarioError, match=r"did you mean smoke\? There are smoke, chat"):
        load_scenario("smok")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "bom.toml").write_bytes(b"\xef\xbb\xbf" + CLOSED.encode())
    assert load_scenario(tmp_path / "bom.toml").load.concurrency == 4


SECRET = "hunter2-and-more-letters"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        (f'api_key = "{SECRET}"\n', "api_key is refused: a scenario file never holds a key"),
        (f'[target]\napi_key = "{SECRET}"\n', "target.api_key is refused: a scenario file never holds a key"),
        (
            f'[target]\nopenai-api-key = "{SECRET}"\n',
            "openai-api-key is refused: a scenario file never holds",
        ),
        (f'[request]\nauthorization = "{SECRET}"\n', "request.authorization is refused"),
        (
            f'[target]\nheaders = {{ Authorization = "{SECRET}" }}\n',
            "target.headers.Authorization holds its value",
        ),
        (f'[target]\nheaders = {{ "X-Key" = "env:{SECRET}" }}\n', "target.headers.X-Key holds its value"),
        (f'[target]\nheaders = ["{SECRET}"]\n', "target.headers is of another type"),
        (f'[target]\nheaders = "{SECRET}"\n', "target.headers is of another type"),
        (f'[target]\napi_key_env = "{SECRET}"\n', "api_key_env is not the name of an environment variable"),
        (f'[target]\nbase_url = "http://u:{SECRET}@h/v1"\n', "target.base_url holds a login"),
        (f'[target]\nbase_url = "http://u:{SECRET}@h:x/v1"\n', "target.base_url is no URL"),
        (
            f'[target]\nbase_url = "http://h/v1?api-key={SECRET}"\n',
            "target.base_url has a query that may hold",
        ),
        (f'[request]\nuser = "Bearer {SECRET}"\n', "request.user looks like a key"),
        (f'description = "sk-{SECRET}"\n', "description looks like a key"),
    ],
)
def test_secrets_are_refused_and_not_shown(tmp_path: Path, text: str, key: str) -> None:
    said = refused(tmp_path, text if text.startswith("[") else text + CLOSED)
    assert key in said
    assert "hunter2" not in said


@pytest.mark.parametrize("name", ["target.api_key", "api_key", "request.api_key", "target.headers.X-Key"])
def test_secrets_on_the_command_line_are_not_shown(tmp_path: Path, name: str) -> None:
    said = refused(tmp_path, CLOSED, f"{name}={SECRET}")
    assert said.startswith(f"--set {name}: ")
    assert "hunter2" not in said


def test_a_tool_s_parameter_may_be_called_key(tmp_path: Path) -> None:
    text = f'{CLOSED}[[request.tools]]\nfunction = {{ parameters = {{ key = "x", token = "y" }} }}\n'
    assert load(tmp_path, text).request["tools"][0]["function"]["parameters"]["key"] == "x"


def test_values_of_headers(tmp_path: Path) -> None:
    target = load(tmp_path, WHOLE).target
    assert header_values(target, {"TEAM": "search"}) == {"X-Team": "search"}
    with pytest.raises(ScenarioError, match=r"target.headers.X-Team names TEAM, which is not set"):
        header_values(target, {})


@pytest.mark.parametrize("name", library())
def test_the_library_loads(name: str) -> None:
    scenario = load_scenario(name, ["load.trace=t.jsonl"] if name == "replay" else [])
    assert scenario.name == name
    assert scenario.description
    assert scenario.target == Target()
    assert warnings(scenario) == []
    assert library_text(name).startswith("# ")


def test_the_library_has_what_was_promised() -> None:
    promised = {"smoke", "chat", "long-context", "reasoning", "bursty", "batch", "replay"}
    assert promised <= set(library())


def test_replay_says_what_it_needs() -> None:
    with pytest.raises(ScenarioError) as caught:
        load_scenario("replay")
    assert str(caught.value) == (
        "replay (library): load.trace is missing; the file or run directory to replay: --set load.trace=PATH"
    )


def test_a_file_beside_a_name_of_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("chat").write_text(CLOSED, encoding="utf-8")
    Path("own").write_text(CLOSED, encoding="utf-8")
    assert load_scenario("chat").load.executor == "constant-arrival-rate"
    assert load_scenario("./own").load.concurrency == 4
    assert load_scenario("own").load.concurrency == 4


def test_targets(tmp_path: Path) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(
        '[old]\nbase_url = "http://a/v1"\nmodel = "m"\n[new]\nbase_url = "http://b/v1"\napi_key_env = "K"\n'
    )
    targets = load_targets(path)
    assert {name: target.base_url for name, target in targets.items()} == {
        "old": "http://a/v1",
        "new": "http://b/v1",
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no target"),
        ("a = 1", "a is no table; a table a target"),
        ("[a]\nmodel = 'm'", "a.base_url is missing; where its requests go"),
        ("[a]\nbase_ur = 'm'", "a.base_ur is no key there is; did you mean base_url?"),
        (f"[a]\nbase_url = 'http://b'\napi_key = '{SECRET}'", "a.api_key is refused"),
        (f"[a]\nbase_url = 'http://b'\nheaders = {{ X = '{SECRET}' }}", "a.headers.X holds its value"),
    ],
)
def test_targets_that_cannot_be_used(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load_targets(path)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "hunter2" not in str(caught.value)


def test_nothing_heavy_is_imported() -> None:
    heavy = "aiohttp uvloop jinja2 pandas scipy numpy pyarrow asyncio"
    code = (
        "import sys, scenarios.flags, scenarios.as_toml, scenarios.sentence, scenarios.cautions\n"
        f"print(*set('{heavy}'.split()) & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize("name", ["a/b", "../esc", ".", ".hidden", "a b", "", "\u00e4", "a\\\\b"])
def test_names_of_targets_are_those_of_folders(tmp_path: Path, name: str) -> None:
    path = tmp_path / "targets.toml"
    path.write_text(f'["{name}"]\nbase_url = "http://h/v1"\nmodel = "m"\n', "utf-8")
    with pytest.raises(ScenarioError, match="is no name for a target") as raised:
        load_targets(path)
    assert raised.value.place == str(path)
    path.write_text('["v1.2_b-3"]\nbase_url = "http://h/v1"\nmodel = "m"\n', "utf-8")
    assert list(load_targets(path)) == ["v1.2_b-3"]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["load.rate=1e6", "load.duration=1h"], "load.rate: makes 3,600,000,000 arrivals"),
        (["load.rate=1", "load.requests=5000001"], "load.rate: makes 5,000,001 arrivals"),
        (["load.rate=1", "load.requests=1", "load.warmup=10000h"], "load.rate: makes 36,000,001 arrivals"),
        (
            ["load.executor=ramping-arrival-rate", 'load.stages=[{duration="1h",target=1e4}]'],
            "load.stages: makes 18,000,000 arrivals",
        ),
        (["load.rate=1e300", "load.duration=1h"], "load.rate: makes 3.6e+303 arrivals"),
    ],
)
def test_a_schedule_that_no_memory_holds_is_refused(changes: list[str], says: str) -> None:
    with pytest.raises(ScenarioError, match=re.escape(says)):
        load_scenario("chat", ["load.warmup=0", *changes])


def test_the_largest_schedule_is_none_too_many() -> None:
    found = load_scenario("chat", ["load.rate=1e6", "load.requests=5000000", "load.warmup=0"])
    assert found.load.requests == MOST_ARRIVALS


def test_a_ramp_of_places_has_no_number_of_warm_up_requests() -> None:
    changes = ["load.executor=ramping-concurrency", 'load.stages=[{duration="1s",target=4}]']
    with pytest.raises(ScenarioError, match=r"load.warmup_requests: is for"):
        load_scenario("chat", [*changes, "load.warmup_requests=3"])
    assert load_scenario("chat", [*changes, "load.warmup=3s"]).load.warmup == "3s"
