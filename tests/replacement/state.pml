// SPDX-License-Identifier: Apache-2.0
// The scope, and the state.

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

// Address spaces: vm_map, pmap, objects, what was reserved (AddressSpace)
byte ent[SPACES * PAGES];       // what each page belongs to; adjacent pages of one object are one entry
byte pte[SPACES * PAGES];       // the frame that each page has, or 0
bit hidden_[SPACES];            // the entries allow no access
byte orefs[SPACES * OBJECTS];   // UvmObject.refs
bit base[SPACES * OBJECTS];     // an object's gfns: page x is (x + base) % GFNS
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
