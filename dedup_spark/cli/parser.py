"""A parser of arguments that says what is wrong in one sentence; argparse's own comes behind a page of usage."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from dedup_spark import console
from dedup_spark.did_you_mean import did_you_mean

_WHOLE, _NUMBER = "a whole number", "a number"
_IN_WORDS: tuple[tuple[str, str], ...] = (
    (r"argument (.+): invalid int value: (.+)", rf"\1 \2: expected {_WHOLE}"),
    (r"argument (.+): invalid float value: (.+)", rf"\1 \2: expected {_NUMBER}"),
    (r"argument (.+?): ('.*': expected .+)", r"\1 \2"),
    (r"argument (.+): expected (?:one|at least one) argument", r"\1: its value is missing"),
    (r"argument (.+): not allowed with argument (.+)", r"\1 and \2 exclude each other: give one of the two"),
    (r"argument (.+): ignored explicit argument (.+)", r"\1 takes no value, found \2"),
    (r"one of the arguments (\S+) (\S+) is required", r"give \1 or \2"),
    (r"the following arguments are required: COMMAND", "a command is missing, such as run"),
    (r"the following arguments are required: (.+)", r"\1 is missing"),
    (r"ambiguous option: (\S+) could match (.+)", r"\1 may mean \2: write it in full"),
    (r"argument (.+?): (there is no .+)", r"\2"),
)
"""What argparse says, and what we say."""


class Parser(argparse.ArgumentParser):
    """`why_unknown`: what to say of options that are near none of this command's."""

    why_unknown = ""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse has it, but what nobody knows is an error here, where the options of the command are known."""
        self._require_command_first(args)
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown))
        self._require_values(options)
        return options, unknown

    def _require_command_first(self, args: Any) -> None:
        """An option of a command in front of it would be told as its value, which is no command."""
        given = next(iter(args or ()), "").partition("=")[0]
        has_commands = any(
            isinstance(action, argparse._SubParsersAction) and action.required for action in self._actions
        )
        if (
            has_commands
            and given.startswith("--")
            and not any(o.startswith(given) for o in self._option_string_actions)
        ):
            self.error(f"there is no option {given} in front of a command; those of a command stand behind its name")

    def error(self, message: str) -> NoReturn:
        """One line on standard error; exit code 2."""
        command = self.prog.removeprefix("dedup-spark").strip()
        console.say(f"{command + ': ' if command else ''}{_in_words(message)} ({self.prog} --help lists what there is)")
        self.exit(2)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        known = [str(choice) for choice in action.choices]
        is_command = isinstance(action, argparse._SubParsersAction)
        name = "/".join(action.option_strings) or str(action.metavar or action.dest).lower()
        what = "command" if is_command else name
        listed = "" if is_command else f"; expected one of {', '.join(known)}"
        raise argparse.ArgumentError(action, f"there is no {what} '{value}'{did_you_mean(value, known) or listed}")

    def _unknown(self, words: Sequence[str]) -> str:
        word = next((w for w in words if w.startswith("-")), words[0]).partition("=")[0]
        if not word.startswith("-"):
            lake = f"; a lake is given as --lake {word}" if "--lake" in self._option_string_actions else ""
            return f"found '{word}', which belongs to no option{lake}"
        known = [name for name in self._option_string_actions if name.startswith("--")]
        hint = did_you_mean(word, [name for name in known if self._option_string_actions[name].help != "==SUPPRESS=="])
        return f"there is no option {word}{hint or self.why_unknown}"

    def _require_values(self, options: argparse.Namespace) -> None:
        """An empty text is no value: as a rule a variable of the shell was not set."""
        for action in self._actions:
            given = getattr(options, action.dest, None)
            if given == "" or (isinstance(given, list) and "" in given):
                name = "/".join(action.option_strings) or str(action.metavar or action.dest)
                self.error(f"{name}: its value is empty; is a variable of the shell not set?")


def _in_words(message: str) -> str:
    for pattern, text in _IN_WORDS:
        if re.fullmatch(pattern, message):
            return re.sub(pattern, text, message)
    return message
