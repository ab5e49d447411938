"""Posts, comments, likes, follows and blocks.

visibility.py  who may see a post: the one predicate that every read and write uses
posts.py       writing posts: drafts, publishing now or at a time, edits
comments.py    writing comments
reactions.py   likes
relations.py   follows and blocks
counters.py    numbers of likes, comments and followers, kept in rows of their own
reads.py       the declared reads of all this
"""
