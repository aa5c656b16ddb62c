"""Room: what the store holds, what of it can go, and how it goes.

`facts` reads what there is, `items` makes of it what people see and choose from, `rules` decides (a pure
function), `removal` carries it out, `stale` sweeps what dead builds left, `budget` does all that at the end
of a build when there is too much. Knows every folder of the store, and of builds only what they hold (see
store.leases).
"""
