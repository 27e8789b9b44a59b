// SPDX-License-Identifier: Apache-2.0
//
// The replacement protocol: clients whose requests prepare in slices, take turns, commit in one step or are cancelled,
// beside faults, which take no turn, and a domain whose memory changes and which dies.
//
// A step here is what the broker does between two pauses: nobody else runs inside it (d_step), anybody may between two.
// Each step ends in laws(). Where planted() is asked, a bug can be put in its place; see check.py, which also says
// which law has to notice. A page here stands for as many pages as a slice has frames.

#ifndef CLIENTS
#define CLIENTS 3
#endif
#ifndef PAGES
#define PAGES 2     // of an address space
#endif
#ifndef GFNS
#define GFNS 1      // of the domain
#endif
#define FRAMES (GFNS + 1) // of the machine: those taken away and mapped still are not to be had
#ifndef PLANTED
#define PLANTED 0
#endif
#define SPACES 2
#define OBJECTS (PAGES + 1)

// Chosen when the checker is run, by the environment; they never change, and are no part of the state.
hidden byte threads = CLIENTS - 1;  // that many clients are threads of one address space, the others of a second one
hidden byte ops = 126;          // the requests there are, a bit each
hidden byte most_owned = FRAMES;    // Domain.max_pages
hidden byte most_frames = PAGES + 1;    // limits.frames of the uid that all clients belong to
hidden byte most_batches = 2;   // limits.batches
hidden byte patient = CLIENTS;   // who never hangs up before its answer
hidden byte planted_bug = PLANTED;    // 0: none
hidden byte watched_law = 0;    // 0: all

#define may(what) (ops >> what & 1)
#define planted(bug) (planted_bug == bug)
#define watched(law) (watched_law == 0 || watched_law == law)

#ifdef REPLAY // Spin's simulator runs no C
#define setup() skip
#else
c_code {
    static void set(uchar *variable, const char *name)
    {
        const char *value = getenv(name);
        if (value)
            *variable = (uchar)atoi(value);
    }
}
#define setup() c_code { \
    set(&threads, "THREADS"); set(&ops, "OPS"); set(&most_owned, "MOST_OWNED"); \
    set(&most_frames, "MOST_FRAMES"); set(&most_batches, "MOST_BATCHES"); \
    set(&patient, "PATIENT"); set(&planted_bug, "PLANTED"); set(&watched_law, "WATCHED"); }
#endif

// What a request is about to do, or does.
#define NOTHING 0
#define BATCH 1     // privcmd.mmapbatch: frames over a range
#define LIST 2      // privcmd.mmap: two ranges, one after the other, until one fails
#define RESERVE 3   // mmap: anonymous memory over the whole space
#define UNMAP 4     // munmap of a range
#define HIDE 5      // mprotect of the whole space to no access
#define SHOW 6      // mprotect of the whole space to read and write

// Where a client is.
#define AWAY 0      // not connected
#define IDLE 1      // connected, and asks nothing
#define WAITING 2   // in the queue; or at its head, and has not gone on yet
#define PREPARING 3 // has its turn, and pauses between two slices

#define ANON 1      // an entry of anonymous memory; above are the objects
#define OBJECT(n) ((n) + 2)

#define ALIVE 0
#define DYING 1
#define GONE 2

// How a step ended, for whoever replays it.
#define PAUSED 0
#define DONE 1
#define EINVAL 2
#define EDQUOT 3
#define EFAULT 4
#define ENOMEM 5
#define GOING_ON 6

#define OF(c, x) ((c) * PAGES + (x))        // page x of a client's request, or of a space
#define NTH(s, i) ((s) * CLIENTS + (i))     // place i of a queue
#define THE(s, o) ((s) * OBJECTS + (o))     // object o of a space
#define SPACE(c) ((c) < threads -> 0 : 1)
#define MINE SPACE(me)

// Bugs that can be planted, each with the law that has to notice.
#define BUG_NO_TURNSTILE 1 // law 5: everybody has the turn at once
#define BUG_COMMIT_IN_TWO_STEPS 2 // law 5: entries are swapped, page table entries a pause later
#define BUG_PUBLISHED_FIRST 3 // law 5: the new entry is in the map while its frames are being looked up (NetBSD, 2007)
#define BUG_UNMAPPED_FIRST 4 // law 5: the old range is unmapped before the new one is prepared (NetBSD, 2009)
#define BUG_CANCEL_KEEPS_REFERENCES 5 // law 3: a cancelled request does not give its frames back
#define BUG_CANCEL_KEEPS_CHARGE 6 // law 9: a cancelled request keeps what was reserved for it
#define BUG_CANCEL_KEEPS_TURN 7 // law 10: a cancelled request keeps its turn
#define BUG_LEAVE_GRANTS_NOBODY 8 // law 10: who leaves does not pass the turn on
#define BUG_GIVEN_UP_PLACE_STAYS 9 // law 10: who hangs up in the queue stays in it
#define BUG_GRANTED_AND_GONE 10 // law 10: who hangs up between grant and going on does not pass the turn on
#define BUG_LAST_COME_FIRST_SERVED 11 // law 11: who came last is next
#define BUG_LOOKED_UP_THEN_REFERRED 12 // law 3: a frame is looked up, and referred to a pause later (XSA-473)
#define BUG_BURIED_TOO_EARLY 13 // law 8: a destroyed domain is gone while its frames are mapped
#define BUG_NEVER_BURIED 14 // law 8: a dying domain stays when its last frame is given back
#define BUG_FAULT_SPENDS_RESERVATION 15 // law 9: a fault settles the account, and loses what a preparation has reserved
#define BUG_FAULT_KEEPS_REFERENCE 16 // law 3: a fault that is over quota keeps its frame
#define BUG_OLD_FRAMES_KEPT 17 // law 3: a commit does not give the old frames back
#define BUG_CLIPPED_UNCOUNTED 18 // law 2: the outer part of a cut entry is not counted
#define BUG_DEAD_ENTRY_COUNTED 19 // law 2: an entry that goes keeps its reference to the object
#define BUG_PAID_AT_COMMIT 20 // law 9: what a replacement costs is paid when it is too late to refuse
#define BUG_BATCH_CHARGE_KEPT 21 // law 9: a request that is over stays in flight
#define BUG_LEFT_UNCANCELLED 22 // law 7: a client is gone, its request is not cancelled
#define BUG_REFUSED_KEEPS_REFERENCES 23 // law 3: a request that is refused after its first slice keeps its frames
#define BUG_FAILED_FRAME_ENTERED 24 // law 4: a fault enters a frame that had failed
#define BUG_SPACE_KEEPS_FRAMES 25 // law 7: a space that ends does not give its frames back

// Address spaces: vm_map, pmap, objects, what was reserved (AddressSpace)
byte ent[SPACES * PAGES];       // what each page belongs to; adjacent pages of one object are one entry
byte pte[SPACES * PAGES];       // the frame that each page has, or 0
bit hidden_[SPACES];            // the entries allow no access
byte orefs[SPACES * OBJECTS];   // UvmObject.refs
bit base[SPACES * OBJECTS];     // an object's names: page x is gfn (x + base) % GFNS
byte bad[SPACES * OBJECTS];     // and these of them failed, a bit each
bit pending[SPACES];
byte was[CLIENTS * PAGES];      // the map as it was when the replacement began that a client prepares
byte tally[SPACES];             // frames paid for
byte used;                      // by the uid, for both spaces
byte batches;                   // in flight, of the uid

// The machine: frame table, domain (FrameTable, Domain)
byte refs[FRAMES + 1];
bit owned[FRAMES + 1];
byte p2m[GFNS];
byte state_of_domain;
byte tot_pages;

// Turnstiles
byte queue[SPACES * CLIENTS];   // client + 1, in order
byte queued[SPACES];
bit granted[CLIENTS];
byte ahead[CLIENTS];            // those who came before and have not left, a bit each

// Requests
byte at[CLIENTS];               // AWAY, IDLE, ...
byte op[CLIENTS];
byte lo[CLIENTS];
byte hi[CLIENTS];
byte next[CLIENTS];             // page to be prepared next
byte from[CLIENTS];             // first page of the entry of LIST at work
bit shift[CLIENTS];             // base of what it asks for
byte failed[CLIENTS];           // pages whose frame failed, a bit each
byte prep[CLIENTS * PAGES];     // frames held by the preparation
byte found[CLIENTS];            // a frame that was looked up and is not referred to yet (a planted bug only)
bit in_flight[CLIENTS];

// Scratch, of one step; no state
hidden byte x; hidden byte y; hidden byte z; hidden byte n; hidden byte m; hidden byte o; hidden byte v;
hidden byte broken;
hidden byte outcome;
hidden byte act; hidden byte page; hidden byte gfn;
hidden byte flag;

// Machine.give and Machine._bury, one frame
inline give(mfn) {
    refs[mfn]--;
    if
    :: refs[mfn] == 0 -> owned[mfn] = 0; tot_pages--; bury()
    :: else
    fi
}

// Machine._bury
inline bury() {
    if
    :: state_of_domain == DYING && tot_pages == 0 && !planted(BUG_NEVER_BURIED) -> state_of_domain = GONE
    :: else
    fi
}

// Foreign.acquire: look one page's frame up and take a reference, in one step. Leaves the frame, or 0, in m.
inline acquire(name) {
    m = p2m[name];
    if
    :: m != 0 -> refs[m]++
    :: else
    fi
}

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

// Pmap.swap of the range that a client has prepared, and Machine.give of what was there
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

// privcmd.give_back
inline give_back(first, last) {
    for (y : first .. last) {
        z = prep[OF(me, y)];
        prep[OF(me, y)] = 0;
        if :: z != 0 -> give(z) :: else fi
    }
}

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

// The request is over: in_turn's finally
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

// A preparation is given up: what acquire does at GeneratorExit, then AddressSpace.abandon
inline abandon(s) {
    if
    :: planted(BUG_CANCEL_KEEPS_REFERENCES) -> for (y : 0 .. PAGES - 1) { prep[OF(me, y)] = 0 }
    :: else -> give_back(0, PAGES - 1)
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

// One slice: the page's frame is looked up and referred to, or the page is one that failed
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

// One that outlives a step counts as in flight; over quota, it is refused
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

// A request for frames has its turn: prepare and commit up to the next pause, or to the end
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

// A system call has its turn: it needs one step
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

// A request arrives: in_turn, or system_call in service/mappings.py; work() follows when nobody has the turn
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

// The domain

// Reservation.populate of one gfn, with the lowest free frame
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

// Reservation.decrease_reservation of one gfn: takes no turn, asks nobody who has it mapped
inline decrease_reservation(name) {
    m = p2m[name];
    p2m[name] = 0;
    give(m)
}

// Hypervisor.destroy
inline destroy() {
    state_of_domain = DYING;
    for (y : 0 .. GFNS - 1) {
        m = p2m[y];
        p2m[y] = 0;
        if :: m != 0 -> give(m) :: else fi
    }
    if :: planted(BUG_BURIED_TOO_EARLY) -> state_of_domain = GONE :: else -> bury() fi
}

// Hypervisor.create
inline create() {
    state_of_domain = ALIVE;
    for (y : 0 .. GFNS - 1) { populate(y) }
}

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

// Who acts, and how: a choice, then a step

#define CONNECT 0
#define ASK 1
#define GO_ON 2
#define CANCEL 3
#define DISCONNECT 4
#define FAULT 5
#define DECREASE 6
#define POPULATE 7
#define DESTROY 8
#define CREATE 9
#define LAST_PAGE (PAGES - 1)
#define LAST_GFN (GFNS - 1)

#ifdef REPLAY // what replay.py does to a broker, and what it then compares
hidden byte dice;
#define seldom (dice == 0) // else it is all coming and going
#define say(word, i, n, value) printf(word); for (i : 0 .. (n) - 1) { printf(" %d", value) } printf("\n")
inline begins(actor) {
    x = (actor < CLIENTS -> actor : 0);
    printf("step %d %d %d %d %d %d %d %d\n", actor, act, page, gfn, op[x], lo[x], hi[x], shift[x])
}
inline ends() {
    printf("outcome %d\n", outcome);
    say("at", x, CLIENTS, at[x]);
    say("ent", x, SPACES * PAGES, ent[x]);
    say("pte", x, SPACES * PAGES, pte[x]);
    say("hidden", x, SPACES, hidden_[x]);
    say("orefs", x, SPACES * OBJECTS, orefs[x]);
    say("base", x, SPACES * OBJECTS, base[x]);
    say("bad", x, SPACES * OBJECTS, bad[x]);
    say("pending", x, SPACES, pending[x]);
    say("tally", x, SPACES, tally[x]);
    say("refs", x, FRAMES + 1, refs[x]);
    say("owned", x, FRAMES + 1, owned[x]);
    say("p2m", x, GFNS, p2m[x]);
    say("queue", x, SPACES * CLIENTS, queue[x]);
    say("granted", x, CLIENTS, granted[x]);
    dice = (dice + 1) % 8;
    printf("used %d\nbatches %d\ndomain %d\ntot_pages %d\nend\n", used, batches, state_of_domain, tot_pages)
}
#else
#define seldom true
#define begins(actor) skip
#define ends() laws()
#endif

inline range(first, last) { lo[me] = first; hi[me] = last }

// Any request there is
inline choose() {
    if
    :: may(BATCH) -> op[me] = BATCH
    :: may(LIST) -> op[me] = LIST
    :: may(RESERVE) -> op[me] = RESERVE
    :: may(UNMAP) -> op[me] = UNMAP
    :: may(HIDE) -> op[me] = HIDE
    :: may(SHOW) -> op[me] = SHOW
    fi;
    if
    :: range(0, LAST_PAGE)
    :: op[me] == BATCH || op[me] == UNMAP -> range(1, LAST_PAGE)
    :: (op[me] == BATCH || op[me] == UNMAP) && PAGES > 2 -> range(1, 1)
    fi;
    if
    :: shift[me] = 0
    :: op[me] == BATCH && GFNS > 1 -> shift[me] = 1
    fi
}

proctype client(byte me) {
    do
    :: atomic {
        if
        :: at[me] == AWAY -> act = CONNECT
        :: at[me] == IDLE -> act = ASK; choose()
        :: at[me] == IDLE -> act = FAULT; if :: page = 0 :: page = LAST_PAGE fi
        :: at[me] == WAITING && granted[me] || at[me] == PREPARING -> act = GO_ON
        :: at[me] >= WAITING && me != patient && seldom -> act = CANCEL
        :: (at[me] == IDLE || planted(BUG_LEFT_UNCANCELLED) && at[me] > IDLE) && seldom -> act = DISCONNECT
        fi;
        d_step {
            begins(me);
            outcome = DONE;
            if
            :: act == CONNECT -> at[me] = IDLE
            :: act == ASK -> ask(MINE)
            :: act == FAULT -> fault(MINE, page)
            :: act == GO_ON -> outcome = GOING_ON
            :: act == CANCEL -> cancel(MINE)
            :: act == DISCONNECT -> disconnect(MINE)
            fi;
            if :: outcome == GOING_ON -> work(MINE) :: else fi;
            ends()
        }
    }
    od
}

proctype toolstack() {
    do
    :: atomic {
        state_of_domain != DYING;
        if :: gfn = 0 :: GFNS > 1 -> gfn = LAST_GFN fi;
        if
        :: state_of_domain == ALIVE && p2m[gfn] != 0 -> act = DECREASE
        :: state_of_domain == ALIVE && p2m[gfn] == 0 && tot_pages < most_owned -> act = POPULATE
        :: state_of_domain == ALIVE && seldom -> act = DESTROY
        :: state_of_domain == GONE -> act = CREATE
        fi;
        d_step {
            begins(CLIENTS);
            outcome = DONE;
            if
            :: act == DECREASE -> decrease_reservation(gfn)
            :: act == POPULATE -> populate(gfn)
            :: act == DESTROY -> destroy()
            :: act == CREATE -> create()
            fi;
            ends()
        }
    }
    od
}

init {
    atomic {
        setup();
        d_step { create(); ends() }
        for (x : 0 .. CLIENTS - 1) { run client(x) }
        run toolstack()
    }
}

#ifdef LIVENESS // under weak fairness: who can go on does so some day, and nobody has to ask for anything
#define waits (at[0] == WAITING)
#define over (at[0] <= IDLE)
ltl answered { [] (waits -> <> over) }
#endif
