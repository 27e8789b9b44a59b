// SPDX-License-Identifier: Apache-2.0
// Requests, from their arrival to their end, and the turnstile at which they wait (service/, model/privcmd/).

// Turnstile.try_enter, and Turnstile.enter up to its first pause
inline enter(s) {
    ahead[me] = 0;
    for (y : 0 .. CLIENTS - 1) {
        if :: y < queued[s] -> ahead[me] = ahead[me] | (1 << (queue[NTH(s, y)] - 1)) :: else fi
    }
    queue[NTH(s, queued[s])] = me + 1;
    granted[me] = queued[s] == 0 || planted(BUG_NO_TURNSTILE);
    queued[s]++
}

// Turnstile.leave: from any place in the queue
inline leave(s, grants) {
    flag = queue[NTH(s, 0)] == me + 1;
    z = 0;
    for (y : 0 .. CLIENTS - 1) {
        if
        :: y < queued[s] && queue[NTH(s, y)] != me + 1 -> queue[NTH(s, z)] = queue[NTH(s, y)]; z++
        :: else
        fi
    }
    queue[NTH(s, z)] = 0;
    queued[s]--;
    if
    :: flag && queued[s] > 0 && grants ->
        if
        :: planted(BUG_LAST_COME_FIRST_SERVED) ->
            z = queue[NTH(s, queued[s] - 1)];
            y = queued[s] - 1;
            do :: y > 0 -> queue[NTH(s, y)] = queue[NTH(s, y - 1)]; y-- :: else -> break od;
            queue[NTH(s, 0)] = z
        :: else
        fi;
        granted[queue[NTH(s, 0)] - 1] = 1
    :: else
    fi;
    granted[me] = 0;
    for (y : 0 .. CLIENTS - 1) { ahead[y] = ahead[y] & ~(1 << me) }
    ahead[me] = 0
}

// The request is over: the end of `in_turn`
inline finish(s) {
    leave(s, !planted(BUG_LEAVE_GRANTS_NOBODY));
    forget()
}

inline forget() {
    if
    :: in_flight[me] && !planted(BUG_BATCH_CHARGE_KEPT) -> in_flight[me] = 0; batches--
    :: else
    fi;
    at[me] = IDLE; op[me] = NOTHING;
    lo[me] = 0; hi[me] = 0; next[me] = 0; from[me] = 0; shift[me] = 0; failed[me] = 0; found[me] = 0
}

// A preparation is given up: what `get_frames` does when it is closed, then AddressSpace.abandon
inline abandon(s) {
    if
    :: planted(BUG_CANCEL_KEEPS_REFERENCES) -> for (y : 0 .. PAGES - 1) { prep[OF(me, y)] = 0 }
    :: else -> put_frames(0, PAGES - 1)
    fi;
    if :: planted(BUG_CANCEL_KEEPS_CHARGE) -> forget_replacement(s) :: else -> settle(s) fi
}

#define LAST (op[me] == LIST && from[me] == lo[me] -> lo[me] : hi[me]) // page of the entry at work

// What comes before an entry's first slice: is the range mapped and readable throughout, and can it be paid for?
inline begin_entry(s) {
    x = LAST;
    flag = !hidden_[s];
    for (y : from[me] .. x) { flag = flag && ent[OF(s, y)] != 0 }
    if
    :: !flag -> outcome = EINVAL
    :: else ->
        reserve(s, from[me], x);
        if
        :: !flag -> outcome = EDQUOT
        :: flag && planted(BUG_PUBLISHED_FIRST) -> new_object(s); replace_entries(s, from[me], x, v)
        :: flag && planted(BUG_UNMAPPED_FIRST) -> replace_entries(s, from[me], x, 0); swap_frames(s, from[me], x)
        :: else
        fi
    fi
}

// One slice of `get_frames`: the page's frame is looked up and referred to, or the page is one that failed
inline slice(s) {
    if
    :: planted(BUG_LOOKED_UP_THEN_REFERRED) && found[me] == 0 && p2m[(next[me] + shift[me]) % GFNS] != 0 ->
        found[me] = p2m[(next[me] + shift[me]) % GFNS];
        outcome = PAUSED
    :: else ->
        if
        :: found[me] != 0 -> m = found[me]; refs[m]++; found[me] = 0
        :: else -> acquire((next[me] + shift[me]) % GFNS)
        fi;
        prep[OF(me, next[me])] = m;
        if :: m == 0 -> failed[me] = failed[me] | (1 << next[me]) :: else fi;
        next[me]++
    fi
}

// All slices of an entry are done: it is placed, or, for a list of which a frame failed, given back
inline end_entry(s) {
    if
    :: op[me] == LIST && failed[me] != 0 -> outcome = EINVAL
    :: else ->
        place(s, from[me], next[me] - 1);
        from[me] = next[me];
        if :: outcome == GOING_ON && next[me] > hi[me] -> outcome = DONE :: else fi
    fi
}

// One that outlives a step counts as in flight; over quota, it is refused (`in_turn`)
inline pause(s) {
    if
    :: in_flight[me] -> outcome = PAUSED
    :: !in_flight[me] && batches < most_batches -> in_flight[me] = 1; batches++; outcome = PAUSED
    :: else ->
        outcome = EDQUOT;
        if
        :: planted(BUG_REFUSED_KEEPS_REFERENCES) -> for (y : 0 .. PAGES - 1) { prep[OF(me, y)] = 0 }
        :: else
        fi
    fi
}

// A request for frames has its turn: prepare and commit up to the next pause, or to the end (Uvm.mmapbatch, Uvm.mmap)
inline map_frames(s) {
    outcome = GOING_ON;
    do
    :: outcome == GOING_ON ->
        if :: next[me] == from[me] && found[me] == 0 -> begin_entry(s) :: else fi;
        if :: outcome == GOING_ON -> x = LAST; slice(s) :: else fi;
        if
        :: outcome == GOING_ON && next[me] > x -> end_entry(s)
        :: outcome == GOING_ON && next[me] <= x -> pause(s)
        :: else
        fi
    :: else -> break
    od;
    if
    :: outcome == PAUSED -> at[me] = PREPARING
    :: outcome != PAUSED && outcome != DONE -> abandon(s)
    :: else
    fi
}

// A system call has its turn and needs one step: `mmap`, `munmap`, `mprotect`
inline system_call(s) {
    outcome = DONE;
    if
    :: op[me] == RESERVE -> hidden_[s] = 0; commit(s, 0, PAGES - 1, ANON)
    :: op[me] == UNMAP -> commit(s, lo[me], hi[me], 0); is_empty(s)
    :: else ->
        flag = 1;
        for (y : 0 .. PAGES - 1) { flag = flag && ent[OF(s, y)] != 0 }
        if
        :: !flag -> outcome = ENOMEM
        :: flag && op[me] == HIDE -> hidden_[s] = 1; swap_frames(s, 0, PAGES - 1); settle(s)
        :: else -> hidden_[s] = 0
        fi
    fi
}

// Nothing is left that could be hidden
inline is_empty(s) {
    flag = 1;
    for (y : 0 .. PAGES - 1) { flag = flag && ent[OF(s, y)] == 0 }
    if :: flag -> hidden_[s] = 0 :: else fi
}

// The turn has come: on to the next pause, or to the answer
inline work(s) {
    if :: ahead[me] != 0 && watched(11) -> broken = 11 :: else fi;
    if
    :: op[me] <= LIST -> map_frames(s)
    :: else -> system_call(s)
    fi;
    if :: outcome != PAUSED -> finish(s) :: else fi
}

// A request arrives: `in_turn`, or `system_call`; work() follows when nobody has the turn
inline ask(s) {
    next[me] = lo[me];
    from[me] = lo[me];
    if
    :: queued[s] != 0 && op[me] <= LIST && batches == most_batches -> outcome = EDQUOT; forget()
    :: else ->
        if
        :: queued[s] != 0 && op[me] <= LIST -> in_flight[me] = 1; batches++
        :: else
        fi;
        enter(s);
        at[me] = WAITING;
        outcome = (granted[me] -> GOING_ON : PAUSED)
    fi
}

// The generator of a request is closed at a pause: the client has hung up
inline cancel(s) {
    outcome = DONE;
    if :: at[me] == PREPARING -> abandon(s) :: else fi;
    if
    :: at[me] == WAITING && planted(BUG_GIVEN_UP_PLACE_STAYS) || at[me] == PREPARING && planted(BUG_CANCEL_KEEPS_TURN)
    :: else -> leave(s, !(planted(BUG_GRANTED_AND_GONE) && at[me] == WAITING))
    fi;
    forget()
}

// Spaces.leave: with its last thread, a space gives everything back
inline disconnect(s) {
    outcome = DONE;
    at[me] = AWAY;
    n = 0;
    for (y : 0 .. CLIENTS - 1) { if :: SPACE(y) == s && at[y] != AWAY -> n++ :: else fi }
    if
    :: n == 0 && planted(BUG_SPACE_KEEPS_FRAMES) -> hidden_[s] = 0; replace_entries(s, 0, PAGES - 1, 0)
    :: n == 0 && !planted(BUG_SPACE_KEEPS_FRAMES) -> hidden_[s] = 0; commit(s, 0, PAGES - 1, 0)
    :: else
    fi
}
