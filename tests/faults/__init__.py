"""Faults on purpose: builds that are killed, refused or cut off at one system call after another.

The one idea: a *scene* is a tiny command over a prepared store; a *point* is one thing that goes wrong in it,
at one place. At each point the scene's store is copied, the command is run and meets its fault, and then a
normal build must give the very image, over a store in which nothing is wrong, with nobody's help.

    python -m tests.faults run --kind kill,error --jobs 2 --record faults.jsonl
    python -m tests.faults summary faults.jsonl

What has been tried is in the record (one JSON object a line), so a run that was stopped goes on where it
was. `scenes` says what is tried, `points` what can go wrong, `tracing` how it is made to (strace(1)),
`trials` what is looked at afterwards, `power` what a power cut would have left. It knows the command from
outside, and of the store what `tests.support.storecheck` knows.
"""
