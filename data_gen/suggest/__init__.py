"""Which words of a corpus are worth a token.

Data flows one way: text -> `counts` -> `families` -> `worth` -> `groups` -> `show` and the terms file.
"""
