"""The command line's help, as it prints it."""

import click

from convengine.cli.application import application

__all__ = ["markdown"]

WIDTH = 100


def markdown() -> str:
    """Return a section for each command, with its help as a block of text."""
    whole = click.Context(
        application,
        info_name="convengine",
        terminal_width=WIDTH,
        max_content_width=WIDTH,
        **application.context_settings,
    )
    parts = [("convengine", application.get_help(whole))]
    for name, command in sorted(application.commands.items()):
        parts.append((f"convengine {name}", command.get_help(click.Context(command, whole, name))))
    return "\n\n".join(f"### {typed}\n\n```text\n{text}\n```" for typed, text in parts)
