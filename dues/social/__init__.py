"""What people publish and what others make of it: posts, comments, likes, follows, blocks.

visibility.py  who may see a post: the one predicate that every read and write goes by
posts.py       writing posts: drafts, publishing now or at a time, edits
comments.py    writing comments
reactions.py   likes
relations.py   follows and blocks
counters.py    the numbers of likes, comments, followers, kept beside what they count
reads.py       what may be read of all this
"""
