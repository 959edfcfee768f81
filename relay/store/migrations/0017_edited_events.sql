-- Edited events: a caller changes an event and sends the result as an event of its own.

-- The event of which this one is an edited copy; null if a provider has sent it. Its verification is 'unsigned' in the
-- column, which the version before knows.
alter table events add column edited_of uuid;
