"""What tidoctor raises.

    TidoctorError
    ├── Unreadable    a source, file or donor could not be examined          exit 3
    ├── Unwritable    the destination could not be written                   exit 3
    ├── Refused       an operation would damage something or is not possible exit 1
    └── Usage         the request contradicts itself                         exit 2

Each is one sentence for a person: what was touched, what is wrong, what to do.
"""

from __future__ import annotations


class TidoctorError(Exception):
    """Base of everything that tidoctor raises on purpose.

    `where` names the file, folder or option, `what` says what is wrong and
    `hint` what to do about it.
    """

    def __init__(self, where: str, what: str, hint: str = "") -> None:
        self.where = where
        self.what = what
        self.hint = hint
        super().__init__(where, what, hint)

    def __str__(self) -> str:
        sentence = f"{self.where}: {self.what}" if self.where else self.what
        return f"{sentence}; {self.hint}" if self.hint else sentence


class Unreadable(TidoctorError):
    """Nothing could be said about `where`, because it could not be examined."""


class Unwritable(TidoctorError):
    """The destination could not be written; nothing was left there."""


class Refused(TidoctorError):
    """The operation was understood and is not carried out, for the reason given."""


class Usage(TidoctorError):
    """The command line or the arguments contradict each other."""
