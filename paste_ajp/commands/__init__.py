"""The shell commands about AJP itself; each a module with two functions.

``add_arguments(parser)`` fills the parser, ``run(arguments)`` does the work and
returns the exit status. ``paste_ajp.cli`` lists them.
"""
