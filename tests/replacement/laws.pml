// SPDX-License-Identifier: Apache-2.0
// The laws: recounted from scratch after each step, by the numbers of docs/explanation/semantics.md; 10 and 11 are the
// turnstile's

#define broken_if(law, wrong) if :: !broken && watched(law) && (wrong) -> broken = law :: else fi

// 2: an object's references are the entries that point to it
inline objects_are_counted() {
    for (x : 0 .. SPACES - 1) {
        for (o : 0 .. OBJECTS - 1) {
            n = 0;
            for (y : 0 .. PAGES - 1) {
                if :: ent[OF(x, y)] == OBJECT(o) && !together(x, y) -> n++ :: else fi
            }
            broken_if(2, orefs[THE(x, o)] != n)
        }
    }
}

// 3: a frame's references are its PTEs, the p2m's own, and those of preparations; who is referred to is owned
inline frames_are_counted() {
    for (m : 1 .. FRAMES) {
        n = 0;
        for (y : 0 .. GFNS - 1) { if :: p2m[y] == m -> n++ :: else fi }
        for (y : 0 .. SPACES * PAGES - 1) { if :: pte[y] == m -> n++ :: else fi }
        for (y : 0 .. CLIENTS * PAGES - 1) { if :: prep[y] == m -> n++ :: else fi }
        broken_if(3, refs[m] != n || owned[m] != (n > 0))
    }
}

// 4: a page has a PTE only where an object maps it and its frame did not fail
inline failed_frames_have_no_pte() {
    for (x : 0 .. SPACES - 1) {
        for (y : 0 .. PAGES - 1) {
            if
            :: pte[OF(x, y)] != 0 ->
                v = ent[OF(x, y)];
                o = THE(x, v - 2 * (v > ANON));
                broken_if(4, v <= ANON || bad[o] & (1 << y))
            :: else
            fi
        }
    }
}

// 5: while a replacement is prepared, everybody sees the map as it was
inline replacement_is_invisible() {
    for (x : 0 .. CLIENTS - 1) {
        for (y : 0 .. PAGES - 1) { broken_if(5, at[x] == PREPARING && ent[OF(SPACE(x), y)] != was[OF(x, y)]) }
    }
}

// 7: who has gone holds nothing, and a space without threads is empty
inline everything_is_given_back() {
    for (x : 0 .. SPACES - 1) {
        n = 0;
        for (y : 0 .. CLIENTS - 1) { if :: SPACE(y) == x && at[y] != AWAY -> n++ :: else fi }
        if
        :: n == 0 ->
            broken_if(7, tally[x] || pending[x] || queued[x]);
            for (y : 0 .. PAGES - 1) { broken_if(7, ent[OF(x, y)] || pte[OF(x, y)]) }
        :: else
        fi
    }
    for (x : 0 .. CLIENTS - 1) {
        if
        :: at[x] <= IDLE ->
            broken_if(7, in_flight[x] || granted[x]);
            for (y : 0 .. PAGES - 1) { broken_if(7, prep[OF(x, y)]) }
        :: else
        fi
    }
}

// 8: a domain is gone when nothing refers to it: not before, and not later
inline domain_lives_as_long_as_referred_to() {
    n = 0;
    for (m : 1 .. FRAMES) { n = n + owned[m] }
    broken_if(8, n != tot_pages || (state_of_domain == DYING && n == 0) || (state_of_domain == GONE && n != 0))
}

// 9: what is paid is what is in use, or reserved, and within the limits
inline charges_add_up() {
    z = 0;
    for (x : 0 .. SPACES - 1) {
        present(x);
        z = z + tally[x];
        broken_if(9, n > tally[x] || (!pending[x] && n != tally[x]))
    }
    n = 0;
    for (x : 0 .. CLIENTS - 1) { n = n + (in_flight[x] && at[x] >= WAITING) }
    broken_if(9, z != used || used > most_frames || n != batches || batches > most_batches)
}

// 10: whoever waits or works is in the queue once, nobody else is, and the first has the turn and nobody else has
inline one_has_the_turn() {
    for (x : 0 .. SPACES - 1) {
        for (y : 0 .. CLIENTS - 1) {
            n = 0;
            for (z : 0 .. CLIENTS - 1) { if :: z < queued[x] && queue[NTH(x, z)] == y + 1 -> n++ :: else fi }
            broken_if(10, n != (SPACE(y) == x && at[y] >= WAITING));
            if
            :: SPACE(y) == x ->
                broken_if(10, granted[y] != (queue[NTH(x, 0)] == y + 1));
                broken_if(10, at[y] == PREPARING && !granted[y])
            :: else
            fi
        }
    }
}

inline laws() {
    objects_are_counted();
    frames_are_counted();
    failed_frames_have_no_pte();
    replacement_is_invisible();
    everything_is_given_back();
    domain_lives_as_long_as_referred_to();
    charges_add_up();
    one_has_the_turn();
    assert(broken != 2); assert(broken != 3); assert(broken != 4); assert(broken != 5); assert(broken != 7);
    assert(broken != 8); assert(broken != 9); assert(broken != 10);
    assert(broken != 11); // first come first served: found where a turn begins
    broken = 0
}
