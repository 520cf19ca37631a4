"""Backups of files: a tar, made as it is sent, and beside it a list of what is in it.

The list is one JSON object a line, in the order of the tar: what each file was when it was read. With it a tar is
compared file by file when it is checked, and again when it is restored.
"""
