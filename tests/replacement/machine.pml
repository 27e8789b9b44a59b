// SPDX-License-Identifier: Apache-2.0
// Frames and the domain that owns them (model/machine.py and what is built on it).

// Machine.put and Machine.bury, one frame
inline give(mfn) {
    refs[mfn]--;
    if
    :: refs[mfn] == 0 -> owned[mfn] = 0; tot_pages--; bury()
    :: else
    fi
}

// Machine.bury
inline bury() {
    if
    :: state_of_domain == DYING && tot_pages == 0 && !planted(BUG_NEVER_BURIED) -> state_of_domain = GONE
    :: else
    fi
}

// `get` of a foreign frame: look one page's frame up and take a reference, in one step. Leaves the frame, or 0, in m.
inline acquire(name) {
    m = p2m[name];
    if
    :: m != 0 -> refs[m]++
    :: else
    fi
}

// `populate` of one gfn, with the lowest free frame
inline populate(name) {
    m = 1;
    do
    :: owned[m] -> m++
    :: else -> break
    od;
    owned[m] = 1;
    refs[m] = 1;
    p2m[name] = m;
    tot_pages++
}

// `decrease_reservation` of one gfn: takes no turn, asks nobody who has it mapped
inline decrease_reservation(name) {
    m = p2m[name];
    p2m[name] = 0;
    give(m)
}

// `destroy` of a domain
inline destroy() {
    state_of_domain = DYING;
    for (y : 0 .. GFNS - 1) {
        m = p2m[y];
        p2m[y] = 0;
        if :: m != 0 -> give(m) :: else fi
    }
    if :: planted(BUG_BURIED_TOO_EARLY) -> state_of_domain = GONE :: else -> bury() fi
}

// `create` of a domain
inline create() {
    state_of_domain = ALIVE;
    for (y : 0 .. GFNS - 1) { populate(y) }
}
