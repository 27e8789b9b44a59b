// SPDX-License-Identifier: Apache-2.0
// Bugs that can be planted, each with the law that has to notice.

#define BUG_NO_TURNSTILE 1 // law 5: all clients have the turn at once
#define BUG_COMMIT_IN_TWO_STEPS 2 // law 5: entries are swapped, page table entries a pause later
#define BUG_PUBLISHED_FIRST 3 // law 5: the new entry is in the map while its frames are being looked up (NetBSD, 2007)
#define BUG_UNMAPPED_FIRST 4 // law 5: the old range is unmapped before the new one is prepared (NetBSD, 2009)
#define BUG_CANCEL_KEEPS_REFERENCES 5 // law 3: a cancelled request does not give its frames back
#define BUG_CANCEL_KEEPS_CHARGE 6 // law 9: a cancelled request keeps what was reserved for it
#define BUG_CANCEL_KEEPS_TURN 7 // law 10: a cancelled request keeps its turn
#define BUG_LEAVE_GRANTS_NOBODY 8 // law 10: a client that leaves does not pass the turn on
#define BUG_GIVEN_UP_PLACE_STAYS 9 // law 10: a client that hangs up in the queue stays in it
#define BUG_GRANTED_AND_GONE 10 // law 10: a client that hangs up after it was granted the turn, and before it goes on, does not pass the turn on
#define BUG_LAST_COME_FIRST_SERVED 11 // law 11: the client that came last has the next turn
#define BUG_LOOKED_UP_THEN_REFERRED 12 // law 3: a frame is looked up, and referred to a pause later (XSA-473)
#define BUG_BURIED_TOO_EARLY 13 // law 8: a destroyed domain is gone while its frames are mapped
#define BUG_NEVER_BURIED 14 // law 8: a dying domain stays when its last frame is given back
#define BUG_FAULT_SPENDS_RESERVATION 15 // law 9: a fault settles the account, and loses what a preparation has reserved
#define BUG_FAULT_KEEPS_REFERENCE 16 // law 3: a fault that is over quota keeps its frame
#define BUG_OLD_FRAMES_KEPT 17 // law 3: a commit does not give the old frames back
#define BUG_CLIPPED_UNCOUNTED 18 // law 2: the outer part of a cut entry is not counted
#define BUG_DEAD_ENTRY_COUNTED 19 // law 2: an entry that goes keeps its reference to the object
#define BUG_PAID_AT_COMMIT 20 // law 9: a replacement is charged when it is too late to refuse it
#define BUG_BATCH_CHARGE_KEPT 21 // law 9: a request that has ended stays in flight
#define BUG_LEFT_UNCANCELLED 22 // law 7: a client is gone, its request is not cancelled
#define BUG_REFUSED_KEEPS_REFERENCES 23 // law 3: a request that is refused after its first slice keeps its frames
#define BUG_FAILED_FRAME_ENTERED 24 // law 4: a fault enters a frame that had failed
#define BUG_SPACE_KEEPS_FRAMES 25 // law 7: a space that ends does not give its frames back
