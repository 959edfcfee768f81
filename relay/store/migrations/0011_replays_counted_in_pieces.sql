-- What a replay matches is counted in pieces, in the background, while the replay runs. An older relay counts all of it
-- before it writes the row, so the default says that the count has ended.
alter table replays
    -- Whether `matched` is still being counted: it is then the number of what was found so far.
    add column counting boolean not null default false,
    -- The last id that has been counted; null before the first piece.
    add column count_after uuid;
