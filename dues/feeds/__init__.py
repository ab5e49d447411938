"""What one reads all day: the feed (all that one may see) and the newsfeed (whom one follows, one's own, and the stores
one is a member of or works for).

query.py  where their rows are looked for
reads.py  what may be read of them
"""
