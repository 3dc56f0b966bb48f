"""A study: what is decided, and the folder that keeps it: journal, lease, mirror, logs.

Every decision is one record of the journal, and all that is known of a study is folded from it.
"""
