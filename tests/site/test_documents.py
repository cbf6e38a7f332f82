"""The documents agree with the code: settings, error codes, fields, links, commands, and the README's own examples."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.management import get_commands

from g4fsite import __version__
from g4fsite.api import AppConfig
from g4fsite.cli import API_VARIABLES
from gateway.surfaces.openai import parser

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
ROOMS = ("g4fsite", "gateway", "conversations", "media")
# Set by ourselves for our own processes.
INTERNAL = {"DJANGO_SETTINGS_MODULE", "PROMETHEUS_MULTIPROC_DIR"}


def sources():
    for room in ROOMS:
        yield from (path for path in (ROOT / room).rglob("*.py") if "migrations" not in path.parts)


def trees(paths):
    for path in paths:
        yield path, ast.parse(path.read_text(encoding="utf-8"))


def calls(tree):
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def constant(node):
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def environment_reads():
    """Name of each variable that the code reads, with the call that reads it."""
    for _, tree in trees(sources()):
        for call in calls(tree):
            function = ast.unparse(call.func)
            named = re.fullmatch(r"_?env_\w+|_origins|os\.environ\.get|os\.getenv", function)
            name = constant(call.args[0]) if named and call.args else None
            if name:
                yield name, function, call


def rows(path, heading=None):
    """The cells of every table row that begins with a name in back-quotes."""
    text = (ROOT / path).read_text(encoding="utf-8")
    if heading:
        text = text.split(f"## {heading}", 1)[1].split("\n## ", 1)[0]
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and re.match(r"^`[^`]+`$|^\d+$", cells[0]):
            yield [cell.strip("`") for cell in cells]


def setting_names(path):
    return [row[0] for row in rows(path) if re.fullmatch(r"[A-Z][A-Z0-9_]+", row[0])]


class TestSettings:
    def test_each_has_a_row_in_both_tables(self):
        read = {name for name, _, _ in environment_reads()} - INTERNAL
        assert set(setting_names("docs/configuration.md")) == read
        assert set(setting_names("README.md")) == read

    @pytest.mark.parametrize("path", ["README.md", "docs/configuration.md"])
    def test_none_has_two_rows(self, path):
        names = setting_names(path)
        assert len(names) == len(set(names))

    @pytest.mark.parametrize("path", ["README.md", "docs/configuration.md"])
    def test_files_for_secrets_are_named(self, path):
        secrets = {name for name, function, _ in environment_reads() if function == "env_secret"}
        assert secrets == {"SECRET_KEY", "KEY_PEPPER", "ENCRYPTION_KEYS"}
        text = (ROOT / path).read_text()
        assert all(f"`{name}_FILE`" in text for name in secrets)

    @pytest.mark.parametrize("path", ["README.md", "docs/configuration.md"])
    def test_defaults_of_numbers_are_the_codes(self, path):
        documented = {row[0]: row[1] for row in rows(path)}
        for name, function, call in environment_reads():
            if function not in ("env_int", "env_bool", "_env_int") or name == "G4F_DEBUG":
                continue
            default = ast.unparse(call.args[1]) if len(call.args) > 1 else "False"
            assert documented[name] == str(int(eval(default))), name

    def test_what_flags_stand_for_is_documented(self):
        known = set(setting_names("docs/configuration.md"))
        assert {name for name, _ in API_VARIABLES.values()} <= known
        assert set(AppConfig.VARIABLES.values()) <= known

    def test_flags_that_are_named_exist(self):
        from django.core.management import load_command_class

        options = load_command_class("g4fsite", "api").create_parser("manage.py", "api").format_help()
        for flag in re.findall(r"`(--[a-z0-9-]+)`", (ROOT / "docs/configuration.md").read_text()):
            assert flag in options, flag


def error_codes():
    """Every code that the code gives an error: `code="..."`, class attributes, and the two numbers' codes."""
    found = set()
    for path, tree in trees(sources()):
        if {"management", "admin"} & set(path.parts):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code":
                found |= set(texts(node.value))
            elif isinstance(node, ast.Assign):
                found |= set(assigned_codes(node))
    return found


def assigned_codes(node):
    for target in node.targets:
        names = [getattr(item, "id", "") for item in getattr(target, "elts", [target])]
        values = getattr(node.value, "elts", [node.value])
        if "code" in names and len(names) == len(values):
            yield from texts(values[names.index("code")])


def texts(node):
    if isinstance(node, ast.IfExp):
        yield from texts(node.body)
        yield from texts(node.orelse)
    elif constant(node):
        yield constant(node)


class TestErrors:
    def test_each_code_has_a_row(self):
        documented = [row[1] for row in rows("docs/errors.md") if row[0].isdigit()]
        assert len(documented) == len(set(documented))
        assert set(documented) == error_codes()

    def test_the_rows_have_the_classes_status_and_type(self):
        from gateway import errors

        documented = {row[1]: (int(row[0]), row[2]) for row in rows("docs/errors.md") if row[0].isdigit()}
        classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and "code" in vars(kind)]
        assert len(classes) > 10
        for kind in classes:
            assert documented[kind.code] == (kind.status, kind.type), kind

    def test_the_proxys_own_answers_use_them_too(self):
        answers = re.findall(r'"code":"(\w+)"', (ROOT / "deploy/nginx.conf").read_text())
        assert answers
        assert set(answers) <= error_codes()


class TestFields:
    def test_what_steers_is_listed(self):
        steering = {row[0] for row in rows("docs/fields.md", "Fields that steer the gateway")}
        assert steering == set(parser.CONSUMED) - set(parser.IGNORED)

    def test_what_is_ignored_is_listed(self):
        ignored = [row[0] for row in rows("docs/fields.md", "Fields that are ignored")]
        assert sorted(ignored) == sorted(parser.IGNORED)

    def test_what_is_checked_is_listed(self):
        checked = {row[0] for row in rows("docs/fields.md", "Fields that are checked and passed on")}
        assert checked == {*parser.CHECKS, "messages", "tools", "tool_choice"}

    def test_bounds_are_the_parsers(self):
        documented = {row[0]: row[1] for row in rows("docs/fields.md")}
        for name, (low, high) in parser.NUMBERS.items():
            assert documented[name] == f"A number from {low} to {high}."
        assert f"from 1 to {parser.MAX_CHOICES}" in documented["n"]
        assert f"1 to {parser.MAX_MESSAGES} messages" in documented["messages"]
        assert f"at most {parser.MAX_TOOLS}" in documented["tools"]


def named(path):
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
class TestEveryDocument:
    def test_relative_links_resolve(self, path):
        for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
            if not re.match(r"[a-z]+:|#", link):
                assert (path.parent / link.split("#")[0]).exists(), link

    def test_files_that_are_named_exist(self, path):
        for name in re.findall(r"`((?:g4fsite|gateway|deploy|docs|tests|scripts|\.ci)/[\w./-]*)`", path.read_text()):
            assert (ROOT / name).exists(), name

    def test_make_targets_exist(self, path):
        targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
        text = "\n".join([*re.findall(r"`([^`\n]+)`", path.read_text()), *shell_blocks(path)])
        for words in re.findall(r"\bmake((?: [a-z-]+)+)", text):
            assert set(words.split()) <= targets, words

    def test_commands_exist(self, path):
        known = {*get_commands(), "init"}
        for name in re.findall(r"(?:manage\.py|-m g4fsite) ([a-z_]+)", path.read_text()):
            assert name in known, name

    def test_shell_blocks_parse(self, path):
        for block in shell_blocks(path):
            parsed = subprocess.run(["sh", "-n"], input=block, capture_output=True, text=True, check=False)
            assert (parsed.returncode, parsed.stderr) == (0, ""), block


def shell_blocks(path):
    return [
        re.sub(r"^ +", "", block, flags=re.MULTILINE)
        for block in re.findall(r"```(?:sh|bash)\n(.*?)```", path.read_text(), re.DOTALL)
    ]


class TestReadme:
    def block(self, language, containing):
        blocks = re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
        return next(block for block in blocks if containing in block)

    def run(self, gateway, command, text):
        gateway.add_demo()
        text = text.replace("http://127.0.0.1:1337", gateway.url).replace("export KEY=sk-gw-...", f"KEY={gateway.key}")
        ran = subprocess.run(
            command, input=text, env={"PATH": "/usr/bin:/bin", "KEY": gateway.key}, capture_output=True, text=True,
            timeout=50, check=False,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    @pytest.mark.skipif(not shutil.which("curl"), reason="curl is not there: install the package curl")
    def test_the_curl_command_gets_an_answer(self, gateway):
        answer = self.run(gateway, ["sh"], self.block("sh", "curl"))
        assert '"object":"chat.completion"' in answer.replace(" ", "")

    def test_the_python_snippet_prints_an_answer(self, gateway):
        assert len(self.run(gateway, [sys.executable, "-"], self.block("python", "OpenAI"))) > 20


def test_the_changelog_has_this_version():
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_module_docstring_of_errors_names_every_class():
    from gateway import errors

    for name, kind in vars(errors).items():
        if isinstance(kind, type):
            assert name in errors.__doc__
