// SPDX-License-Identifier: Apache-2.0
// What replay.py does to a broker, and what it then compares.

#ifdef REPLAY
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

