"""The command line's help, as it prints it."""

import click

from convengine.cli.application import application

__all__ = ["commands", "markdown"]

WIDTH = 100


def commands() -> dict[str, click.Command]:
    """Return every command by what one types for it."""
    named = {f"convengine {name}": command for name, command in sorted(application.commands.items())}
    return {"convengine": application, **named}


def markdown() -> str:
    """Return a section for each command, with its help as a block of text."""
    sections = []
    for typed, command in commands().items():
        with click.Context(command, info_name=typed, terminal_width=WIDTH, max_content_width=WIDTH) as context:
            sections.append(f"### {typed}\n\n```text\n{command.get_help(context)}\n```")
    return "\n\n".join(sections)
