// SPDX-License-Identifier: Apache-2.0
//
// The replacement protocol: clients whose requests prepare in slices, take turns, commit in one step or are cancelled,
// beside faults, which take no turn, and a domain whose memory changes and which dies.
//
// A step here is what the broker does between two pauses: nobody else runs inside it (d_step), anybody may between two.
// Each step ends in laws(). Comments name what a part stands for in the code, as Class.method or in `backquotes`. Where
// planted() is asked, a bug can be put in. A page here stands for as many pages as a slice has frames.

#include "bugs.pml"
#include "state.pml"
#include "machine.pml"
#include "space.pml"
#include "requests.pml"
#include "laws.pml"

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

#include "trace.pml"

#define LAST_PAGE (PAGES - 1)
#define LAST_GFN (GFNS - 1)

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
