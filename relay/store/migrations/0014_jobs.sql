-- Jobs: which job of an AI provider an event is about.
--
-- A call that awaits a job finds its events by the source and the job key. Most events are about no job, and their
-- columns are null.

alter table events
    -- The provider's id of the job, or what the source reads instead; null if the event is about no job.
    add column job_key text,
    -- The state of the job as the provider writes it; null if the event has none.
    add column job_state text,
    -- Whether the job has ended well (true) or badly (false); null if it has not ended, or if that is not known.
    add column job_good boolean,
    add constraint a_state_is_that_of_a_job check (job_key is not null or (job_state is null and job_good is null));
-- The events of a job in the order of their ids: for calls that await it, and for lists.
create index events_by_job on events (job_key, source_id, id) where job_key is not null;
