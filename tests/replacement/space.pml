// SPDX-License-Identifier: Apache-2.0
// Address spaces: what is reserved, committed, given up, and faults (model/mapped.py, vm_map.py, privcmd/uvm.py).

inline present(s) {
    n = 0;
    for (y : 0 .. PAGES - 1) { if :: pte[OF(s, y)] != 0 -> n++ :: else fi }
}

// Tally.pay
inline pay(s, amount) {
    used = used + (amount) - tally[s];
    tally[s] = amount
}

inline forget_replacement(s) {
    pending[s] = 0;
    for (y : 0 .. PAGES - 1) { was[OF(me, y)] = 0 }
}

// AddressSpace._settle: this cannot fail, so it must never be more than was reserved
inline settle(s) {
    forget_replacement(s);
    present(s);
    if
    :: n > tally[s] && watched(9) -> broken = 9
    :: else
    fi;
    pay(s, n)
}

// AddressSpace.reserve: flag is left 0 when the uid may not have so much
inline reserve(s, first, last) {
    present(s);
    n = n + (last) - (first) + 1;
    flag = used + n - tally[s] <= most_frames || planted(BUG_PAID_AT_COMMIT);
    if
    :: flag ->
        if :: planted(BUG_PAID_AT_COMMIT) :: else -> pay(s, n) fi;
        pending[s] = 1;
        for (y : 0 .. PAGES - 1) { was[OF(me, y)] = ent[OF(s, y)] }
    :: else
    fi
}

// Whether a page and the next are of one entry; indexes stay inside the arrays whatever is asked
#define NEXT(page) ((page) + ((page) < PAGES - 1))
#define together(s, page) ((page) < PAGES - 1 && ent[OF(s, page)] == ent[OF(s, NEXT(page))])

inline object_ref(s, entry) {
    if :: entry > ANON -> orefs[THE(s, entry - 2)]++ :: else fi
}

inline object_unref(s, entry) {
    if
    :: entry > ANON ->
        o = THE(s, entry - 2);
        orefs[o]--;
        if :: orefs[o] == 0 -> base[o] = 0; bad[o] = 0 :: else fi
    :: else
    fi
}

// VmMap.replace and AddressSpace._attach: new takes the place of what is in a range. Objects of entries that are cut
// gain a reference for each outer part, those of entries that go lose one.
inline replace_entries(s, first, last, new) {
    if
    :: !planted(BUG_CLIPPED_UNCOUNTED) ->
        if :: first > 0 && together(s, first - (first > 0)) -> object_ref(s, ent[OF(s, first)]) :: else fi;
        if :: together(s, last) -> object_ref(s, ent[OF(s, last)]) :: else fi
    :: else
    fi;
    object_ref(s, new);
    y = first;
    do
    :: y <= last ->
        z = ent[OF(s, y)];
        flag = y == last || !together(s, y); // the last page of an entry
        ent[OF(s, y)] = new;
        if :: flag && !planted(BUG_DEAD_ENTRY_COUNTED) -> object_unref(s, z) :: else fi;
        y++
    :: else -> break
    od
}

// Pmap.swap of the range that a client has prepared, and Machine.put of what was there
inline swap_frames(s, first, last) {
    for (y : first .. last) {
        z = pte[OF(s, y)];
        pte[OF(s, y)] = prep[OF(me, y)];
        prep[OF(me, y)] = 0;
        if :: z != 0 && !planted(BUG_OLD_FRAMES_KEPT) -> give(z) :: else fi
    }
}

// AddressSpace.commit, for whoever has no frames to enter
inline commit(s, first, last, new) {
    replace_entries(s, first, last, new);
    swap_frames(s, first, last);
    settle(s)
}

// Uvm._place: an object that nobody knows yet, then the commit. failed[me] becomes what the object remembers.
inline new_object(s) {
    o = 0;
    do
    :: orefs[THE(s, o)] != 0 -> o++
    :: else -> break
    od;
    base[THE(s, o)] = shift[me];
    bad[THE(s, o)] = failed[me];
    failed[me] = 0;
    v = OBJECT(o)
}

inline place(s, first, last) {
    new_object(s);
    if
    :: planted(BUG_COMMIT_IN_TWO_STEPS) -> replace_entries(s, first, last, v); outcome = PAUSED
    :: else -> commit(s, first, last, v)
    fi
}

// `put_frames`
inline put_frames(first, last) {
    for (y : first .. last) {
        z = prep[OF(me, y)];
        prep[OF(me, y)] = 0;
        if :: z != 0 -> give(z) :: else fi
    }
}

// Uvm.fault and AddressSpace.enter: takes no turn
inline fault(s, touched) {
    v = ent[OF(s, touched)];
    if
    :: v <= ANON || hidden_[s] -> outcome = EFAULT
    :: else ->
        o = THE(s, v - 2);
        if
        :: pte[OF(s, touched)] != 0 -> outcome = DONE
        :: pte[OF(s, touched)] == 0 && bad[o] & (1 << touched) && !planted(BUG_FAILED_FRAME_ENTERED) -> outcome = EFAULT
        :: else ->
            acquire((touched + base[o]) % GFNS);
            if
            :: m == 0 -> outcome = EFAULT
            :: m != 0 && used == most_frames ->
                outcome = EDQUOT;
                if :: planted(BUG_FAULT_KEEPS_REFERENCE) :: else -> give(m) fi
            :: else ->
                outcome = DONE;
                if
                :: planted(BUG_FAULT_SPENDS_RESERVATION) -> present(s); pay(s, n + 1)
                :: else -> pay(s, tally[s] + 1)
                fi;
                pte[OF(s, touched)] = m
            fi
        fi
    fi
}
