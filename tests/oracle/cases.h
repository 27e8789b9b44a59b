// SPDX-License-Identifier: Apache-2.0
/* Cases of probe.c (included by it). */
struct tcase { const char *name; void (*fn)(void); int secs; int parent; int only; };
#define G(i) (A.fr[i])
static xen_pfn_t *seq(int n) { static xen_pfn_t a[8][4096]; static int r; xen_pfn_t *p = a[r++ & 7]; for (int i = 0; i < n; i++) p[i] = G(i % NFR); return p; }

/* ------------------------------------------------------------- V2 basic -- */
static void c_v2_good(void)
{ int fd = opn(); xen_pfn_t a[] = { G(3), G(1), G(4), G(1 + 4) }; void *p = vmaRW(fd, 4); V2("four good frames", fd, p, 4, A.id, a, 4, p, 4);
  jbegin("write"); jwrites("writes", p, 4, 0x77); jpages("pages", p, 4); jmaps("maps", p, 4); jvmflags("VmFlags", p); jsmaps("smaps", p); jend();
  jbegin("undo"); jwrites("writes", p, 4, 0); jend();
  int r = munmap(p, 4 * PG); jbegin("munmap"); jret(r, errno); jend(); }
static void c_v2_bad(void)
{
    int fd = opn(); void *p; xen_pfn_t b = BAD();
    { xen_pfn_t a[] = { G(0), G(1), b, G(3) }; p = vmaRW(fd, 4); V2("bad in the middle", fd, p, 4, A.id, a, 4, p, 4);
      jbegin("write into failed frame"); jwrites("writes", p + 2 * PG, 1, 1); jend(); munmap(p, 4 * PG); }
    { xen_pfn_t a[] = { b, G(1), G(2), G(3) }; p = vmaRW(fd, 4); V2("bad first", fd, p, 4, A.id, a, 4, p, 4); munmap(p, 4 * PG); }
    { xen_pfn_t a[] = { G(0), G(1), G(2), b }; p = vmaRW(fd, 4); V2("bad last", fd, p, 4, A.id, a, 4, p, 4); munmap(p, 4 * PG); }
    { xen_pfn_t a[] = { b, b, b, b }; p = vmaRW(fd, 4); V2("all bad", fd, p, 4, A.id, a, 4, p, 4); munmap(p, 4 * PG); }
    { xen_pfn_t a[] = { b }; p = vmaRW(fd, 1); V2("single bad", fd, p, 1, A.id, a, 1, p, 1); munmap(p, PG); }
    { xen_pfn_t *a = seq(36); int w[] = { 0, 14, 15, 16, 17, 31, 32, 35 }; for (int i = 0; i < 8; i++) a[w[i]] = b; p = vmaRW(fd, 36); V2("36 frames, bad at 0 14 15 16 17 31 32 35", fd, p, 36, A.id, a, 36, p, 36); munmap(p, 36 * PG); }
    { xen_pfn_t *a = seq(1030); a[511] = b; a[512] = b; a[1023] = b; a[1029] = b; p = vmaRW(fd, 1030); V2("1030 frames, bad at 511 512 1023 1029", fd, p, 1030, A.id, a, 1030, 0, 0); int er[] = { 0 }; (void)er;
      int idx[] = { 510, 511, 512, 513, 1022, 1023, 1024, 1028, 1029 }; jbegin("1030 frames: views of 510 511 512 513 1022 1023 1024 1028 1029"); jk("pages"); jp("["); for (int i = 0; i < 9; i++) { jp("%s", i ? "," : ""); jstrv(view(p + idx[i] * PG)); } jp("]"); jend(); munmap(p, 1030 * PG); }
}
static void c_v2_gfnval(void)
{
    int fd = opn(); struct { const char *s; xen_pfn_t g; } t[] = {
        { "first gfn past the populated ones (gfn NFR)", ttype == T_PV ? 0 : NFR }, { "gfn 0xa0 (VGA hole)", 0xa0 }, { "gfn 0xfee00 (lapic)", 0xfee00 }, { "gfn 0xfec00 (ioapic)", 0xfec00 },
        { "max_mfn", max_mfn }, { "max_mfn+1", max_mfn + 1 }, { "max_mfn+2", max_mfn + 2 }, { "2^20", 1ULL << 20 }, { "2^22", 1ULL << 22 }, { "2^24", 1ULL << 24 }, { "2^26", 1ULL << 26 }, { "2^28-1", (1ULL << 28) - 1 }, { "2^28", 1ULL << 28 }, { "2^32", 1ULL << 32 }, { "2^36", 1ULL << 36 }, { "2^39", 1ULL << 39 },
        { "2^40-1", (1ULL << 40) - 1 }, { "2^40", 1ULL << 40 }, { "2^40|g5", (1ULL << 40) | G(5) }, { "2^41|g5", (1ULL << 41) | G(5) }, { "2^44|g5", (1ULL << 44) | G(5) }, { "2^47|g5", (1ULL << 47) | G(5) }, { "2^50|g5", (1ULL << 50) | G(5) }, { "2^51|g5 (pte bit 63, NX)", (1ULL << 51) | G(5) }, { "2^51", 1ULL << 51 },
        { "2^52", 1ULL << 52 }, { "2^52|g5", (1ULL << 52) | G(5) }, { "2^63|g5", (1ULL << 63) | G(5) }, { "0xfff0000000000000|g7", 0xfff0000000000000ULL | G(7) }, { "~0>>12", ~0ULL >> 12 }, { "~0", ~0ULL }, { "~0-1", ~0ULL - 1 }, { "0xffffffff", 0xffffffffULL }, { "2^32|g5", (1ULL << 32) | G(5) } };
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) { void *p = vmaRW(fd, 1); char s[96]; snprintf(s, 96, "gfn %s", t[i].s); V2(s, fd, p, 1, A.id, &t[i].g, 1, p, 1); munmap(p, PG); }
}
static void c_v2_num(void)
{
    int fd = opn(); void *p = vmaRW(fd, 4); xen_pfn_t *a = seq(4); int err[8]; unsigned n[] = { 0, 0x7fffffff, 0x80000000u, 0xffffffffu, 0x10000000 };
    for (int i = 0; i < 5; i++) { for (int j = 0; j < 8; j++) err[j] = SENT;
        /* arr: 4 entries at the very end of a mapping, so that a longer read faults */
        char *q = mmap(0, 3 * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(q + PG, PG); xen_pfn_t *ar = (xen_pfn_t *)(q + PG) - 4; memcpy(ar, a, 32);
        errno = 0; int r = v2(fd, p, n[i], A.id, ar, err), e = errno; char s[80]; snprintf(s, 80, "num=0x%x, arr ends at an unmapped page", n[i]);
        jbegin(s); jret(r, e); jerrs("err", err, 8); jpages("pages", p, 4); jend(); }
    V2("the same vma afterwards, num=4", fd, p, 4, A.id, a, 4, p, 4);
}
static void c_v2_addr(void)
{
    int fd = opn(); xen_pfn_t *a = seq(8); void *p;
    p = vmaRW(fd, 4); V2("addr = vma+8, num=4 (first call)", fd, p + 8, 4, A.id, a, 4, p, 4); V2("addr = vma+8, num=3 (first call)", fd, p + 8, 3, A.id, a, 3, p, 4);
    V2("addr = vma+page, num=3 (not at start, first call)", fd, p + PG, 3, A.id, a, 3, p, 4);
    V2("addr = vma, num=3 of 4 (fewer, first call)", fd, p, 3, A.id, a, 3, p, 4);
    V2("addr = vma, num=5 of 4 (more, first call)", fd, p, 5, A.id, a, 5, p, 4);
    V2("addr = vma, num=4 (now right)", fd, p, 4, A.id, a, 4, p, 4); munmap(p, 4 * PG);
    p = mmap(0, 4 * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); V2("anonymous memory", fd, p, 4, A.id, a, 4, p, 0); munmap(p, 4 * PG);
    V2("just unmapped address", fd, p, 4, A.id, a, 4, p, 0);
    V2("addr NULL", fd, 0, 4, A.id, a, 4, p, 0); V2("addr kernel half", fd, (void *)0xffff888000000000UL, 4, A.id, a, 4, 0, 0); V2("addr top of user half", fd, (void *)0x7ffffffff000UL, 1, A.id, a, 1, 0, 0); V2("addr ~0", fd, (void *)~0UL, 1, A.id, a, 1, 0, 0); V2("addr non canonical", fd, (void *)0x0100000000000000UL, 1, A.id, a, 1, 0, 0);
    { int z = open("/dev/zero", O_RDWR); p = mmap(0, 4 * PG, RW, MAP_SHARED, z, 0); V2("/dev/zero shared mapping", fd, p, 4, A.id, a, 4, p, 0); munmap(p, 4 * PG); close(z); }
    { int fd2 = opn(); p = vmaRW(fd2, 4); V2("vma of another privcmd fd", fd, p, 4, A.id, a, 4, p, 4); munmap(p, 4 * PG); close(fd2); }
    { char *q = mmap(0, 8 * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(q, 8 * PG); p = mmap(q + 2 * PG, 2 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 0);
      V2("hole below a fresh vma (find_vma gives the next one up)", fd, q + PG, 1, A.id, a, 1, 0, 0);
      V2("hole below, running into the fresh vma", fd, q + PG, 3, A.id, a, 3, p, 2);
      V2("map it", fd, p, 2, A.id, a, 2, p, 2); V2("hole below a mapped vma", fd, q + PG, 1, A.id, a, 1, p, 0); V2("past the end of a mapped vma", fd, p + 2 * PG, 1, A.id, a, 1, p, 0); V2("last page and one past", fd, p + PG, 2, A.id, a, 2, p, 2); munmap(p, 2 * PG); }
    { char *q = mmap(0, 8 * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(q, 8 * PG); void *p1 = mmap(q, 2 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 0), *p2 = mmap(q + 2 * PG, 2 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 2 * PG), *p3 = mmap(q + 4 * PG, 2 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 0);
      jbegin("three adjacent mmaps (offsets 0, 2 pages, 0): vmas merged?"); jmaps("maps", q, 6); jend(); (void)p3;
      V2("4 frames over the first two adjacent", fd, p1, 4, A.id, a, 4, p1, 4); V2("2 frames on the second only", fd, p2, 2, A.id, a, 2, p2, 2); munmap(q, 6 * PG); }
    { xen_pfn_t b = BAD(); xen_pfn_t h[] = { G(0), b, G(2), b }; p = vmaRW(fd, 4); V2("make holes at 1 and 3", fd, p, 4, A.id, h, 4, p, 4);
      xen_pfn_t g1 = G(9), g3 = G(10); V2("retry hole 1 with addr off by 8", fd, p + PG + 8, 1, A.id, &g1, 1, p, 4); V2("retry hole 3 with addr off by 8 (range passes the vma end)", fd, p + 3 * PG + 8, 1, A.id, &g3, 1, p, 4); munmap(p, 4 * PG); }
}
static void c_v2_ptr(void)
{
    int fd = opn(); xen_pfn_t *a = seq(8), b = BAD(); void *p = vmaRW(fd, 4); int err[8], r, e;
#define RAW(step, ad, n, arr, er) do { for (int j = 0; j < 8; j++) err[j] = SENT; errno = 0; r = v2(fd, ad, n, A.id, arr, er); e = errno; jbegin(step); jret(r, e); jerrs("err", err, n); jpages("pages", ad, n); jend(); } while (0)
    RAW("arr NULL", p, 4, NULL, err); RAW("err NULL", p, 4, a, NULL); RAW("both NULL", p, 4, NULL, NULL);
    RAW("arr kernel pointer", p, 4, (void *)0xffff888000000000UL, err); RAW("err kernel pointer", p, 4, a, (void *)0xffff888000000000UL);
    errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH_V2, NULL); jbegin("argument NULL"); jret(r, errno); jend();
    errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH_V2, 0xffff888000000000UL); jbegin("argument kernel pointer"); jret(r, errno); jend();
    char *q = mmap(0, 3 * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(q + PG, PG); mprotect(q + 2 * PG, PG, PROT_READ);
    xen_pfn_t *ae = (xen_pfn_t *)(q + PG) - 2; ae[0] = a[0]; ae[1] = a[1]; RAW("arr runs into an unmapped page after 2", p, 4, ae, err);
    int *ee = (int *)(q + PG) - 2; ee[0] = ee[1] = SENT; RAW("err runs into an unmapped page after 2", p, 4, a, ee); jbegin("err array then"); jerrs("err", ee, 2); jend();
    RAW("err read only", p, 4, a, (int *)(q + 2 * PG));
    RAW("same vma, all right", p, 4, a, err); munmap(p, 4 * PG);
    /* the struct itself in read-only memory */
    { p = vmaRW(fd, 1); char *ro = mmap(0, PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); privcmd_mmapbatch_v2_t *m = (void *)ro; *m = (privcmd_mmapbatch_v2_t){ .num = 1, .dom = A.id, .addr = (unsigned long)p, .arr = a, .err = err }; mprotect(ro, PG, PROT_READ); errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH_V2, m); jbegin("argument struct in read-only memory"); jret(r, errno); jpages("pages", p, 1); jend(); munmap(p, PG); }
    /* err overlaps arr */
    { p = vmaRW(fd, 4); xen_pfn_t u[4] = { G(0), b, G(2), G(3) }; errno = 0; r = v2(fd, p, 4, A.id, u, (int *)u); e = errno; jbegin("err aliases arr, one bad"); jret(r, e); jerrs("err", (int *)u, 8); jpages("pages", p, 4); jend(); munmap(p, 4 * PG); }
    /* arr lives inside another foreign mapping / in the vma itself */
    { void *s = vmaRW(fd, 1); xen_pfn_t g = G(100); v2(fd, s, 1, A.id, &g, err); memcpy(s, a, 32); p = vmaRW(fd, 4); RAW("arr read from memory that is itself a foreign mapping", p, 4, s, err); munmap(p, 4 * PG);
      p = vmaRW(fd, 4); RAW("err written to memory that is itself a foreign mapping", p, 4, a, (int *)s); jbegin("that memory"); jerrs("err", (int *)s, 4); jend(); fillpat(s, 'A', 100); munmap(p, 4 * PG); munmap(s, PG);
      p = vmaRW(fd, 4); RAW("arr inside the unmapped vma being mapped", p, 4, p, err); RAW("err inside the unmapped vma being mapped", p, 4, a, p); RAW("then right", p, 4, a, err); munmap(p, 4 * PG); }
    { p = vmaRW(fd, 4); xen_pfn_t *un = (xen_pfn_t *)(malloc(64) + 3); memcpy(un, a, 32); RAW("arr unaligned by 3", p, 4, un, err); munmap(p, 4 * PG); }
}
static void c_v2_dom(void)
{
    int fd = opn(); xen_pfn_t *a = seq(4), lo[] = { 1, 2, 3, 4 }; int d[] = { 999, 32000, 0x7fef, 0x7ff0, 0x7ff1, 0x7ff2, 0x7ff3, 0x7ff4, 0x7ff5, 0x7ff6, 0x7fff, 0x8000, 0xffff };
    for (unsigned i = 0; i < sizeof d / sizeof *d; i++) { void *p = vmaRW(fd, 4); char s[64]; snprintf(s, 64, "domid 0x%x (%s)", d[i], d[i] == 0x7ff0 ? "SELF" : d[i] == 0x7ff1 ? "IO" : d[i] == 0x7ff2 ? "XEN" : d[i] == 0x7ff3 ? "COW" : d[i] == 0x7ff4 ? "INVALID" : d[i] == 0x7fff ? "IDLE" : "none"); V2(s, fd, p, 4, d[i], a, 4, p, 4); munmap(p, 4 * PG); }
    void *p = vmaRW(fd, 4); V2("domid 0 with A's frame numbers", fd, p, 4, 0, a, 4, p, 4); munmap(p, 4 * PG);
    p = vmaRW(fd, 4); V2("domain B with A's frame numbers (on PV: A's mfns)", fd, p, 4, B.id, a, 4, p, 4); munmap(p, 4 * PG);
    p = vmaRW(fd, 4); V2("domain A with frame numbers 1 2 3 4", fd, p, 4, A.id, lo, 4, p, 4); munmap(p, 4 * PG);
    { /* MMIO through DOMID_IO and DOMID_SELF and A: HPET, IOAPIC, LAPIC, VGA text */
      xen_pfn_t io[] = { 0xfed00, 0xfec00, 0xfee00, 0xb8, 0xf0, 0xfd000 }; int dd[] = { 0x7ff1, 0x7ff0, 0, 0x7ff2 };
      for (int k = 0; k < 4; k++) for (int pr = 0; pr < 2; pr++) { p = vma(fd, 6, pr ? PROT_READ : RW, MAP_SHARED); char s[80]; snprintf(s, 80, "mmio frames hpet ioapic lapic vga bios pci, domid 0x%x, %s", dd[k], pr ? "RO" : "RW"); V2(s, fd, p, 6, dd[k], io, 6, p, 0); munmap(p, 6 * PG); } }
    { /* m2p frames belong to DOMID_XEN */
      xen_pfn_t m[2] = { 0, 0 }; int r = xc_machphys_mfn_list(xch, 1, m); jbegin("machphys mfn list"); jret(r, errno); js("mfn0", "0x%llx", (unsigned long long)m[0]); jend();
      if (!r) { int dd[] = { 0x7ff2, 0x7ff0, 0, 0x7ff1, (int)A.id }; for (int k = 0; k < 5; k++) for (int pr = 0; pr < 2; pr++) { p = vma(fd, 1, pr ? PROT_READ : RW, MAP_SHARED); char s[80]; snprintf(s, 80, "machine-to-phys frame, domid 0x%x, %s", dd[k], pr ? "RO" : "RW"); V2(s, fd, p, 1, dd[k], m, 1, p, 1); jbegin("write it"); js("write", "%s", pr ? "skipped" : "skipped"); jend(); munmap(p, PG); } } }
}
static void c_self(void)
{
    /* dom0's own page: need its mfn (PV) or gfn: pfn through pagemap, mfn through the m2p table */
    int fd = opn(); char *pg = mmap(0, PG, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0); mlock(pg, PG); fillpat((uint64_t *)pg, 'S', 1);
    uint64_t pm = 0; int f = open("/proc/self/pagemap", O_RDONLY); if (pread(f, &pm, 8, ((unsigned long)pg >> 12) * 8) != 8) pm = 0; unsigned long pfn = pm & ((1ULL << 55) - 1);
    /* the machine-to-phys table: 2 MiB chunks owned by DOMID_XEN, mapped RO with IOCTL_PRIVCMD_MMAP */
    xen_pfn_t found = 0, ch[64]; int n = 0, nch = (max_mfn + (1 << 18) - 1) >> 18, mr, me; memset(ch, 0, sizeof ch);
    mr = xc_machphys_mfn_list(xch, nch, ch); me = errno; xen_pfn_t *m2p = NULL;
    if (!mr) { char *t = vma(fd, nch * 512, PROT_READ, MAP_SHARED); privcmd_mmap_entry_t e[64]; for (int i = 0; i < nch; i++) { e[i].va = (unsigned long)t + i * 512 * PG; e[i].mfn = ch[i]; e[i].npages = 512; } errno = 0; mr = mm(fd, nch, 0x7ff2, e); me = errno; if (!mr) m2p = (xen_pfn_t *)t; }
    jbegin("MMAP of the whole machine-to-phys table, domid XEN, RO"); jret(mr, me); ji("chunks_of_2MiB", nch); jend();
    jbegin("find own mfn"); js("pfn", "0x%lx", pfn); js("m2p", "%s", m2p ? "mapped" : en(errno));
    if (m2p) for (unsigned long m = 1; m <= max_mfn; m++) if (m2p[m] == pfn) {
        void *t = vma(fd, 1, PROT_READ, MAP_SHARED); xen_pfn_t mm_ = m; int er = 0; if (!v2(fd, t, 1, 0x7ff0, &mm_, &er) && !er) { n++; const char *v = view(t); jp(",\"cand_0x%lx\":\"%s\"", m, v); if (!strncmp(v, "S:", 2)) found = m; } munmap(t, PG); }
    ji("candidates", n); js("own_mfn", "0x%llx", (unsigned long long)found); jend();
    xen_pfn_t a[] = { found ? found : pfn, pfn }; int d[] = { 0x7ff0, 0, 0x7ff4, 0x7ff2, 0x7ff1, (int)A.id };
    for (int k = 0; k < 6; k++) { void *p = vmaRW(fd, 2); char s[64]; snprintf(s, 64, "own page [mfn, pseudo-physical pfn], domid 0x%x RW", d[k]); V2(s, fd, p, 2, d[k], a, 2, p, 2); jbegin("write through it"); jwrites("writes", p, 1, 0x42); js("own_page", "%s", view(pg)); jend(); ((uint64_t *)pg)[511] = 0; munmap(p, 2 * PG); }
}
static void c_v2_prot(void)
{
    struct { const char *s; int prot, flags; } t[] = { { "PROT_READ MAP_SHARED", PROT_READ, MAP_SHARED }, { "PROT_WRITE MAP_SHARED", PROT_WRITE, MAP_SHARED }, { "PROT_NONE MAP_SHARED", PROT_NONE, MAP_SHARED }, { "PROT_READ|PROT_EXEC MAP_SHARED", PROT_READ | PROT_EXEC, MAP_SHARED },
        { "PROT_READ|WRITE|EXEC MAP_SHARED", RW | PROT_EXEC, MAP_SHARED }, { "PROT_READ|WRITE MAP_PRIVATE", RW, MAP_PRIVATE }, { "PROT_READ MAP_PRIVATE", PROT_READ, MAP_PRIVATE }, { "PROT_READ|WRITE MAP_SHARED|MAP_POPULATE", RW, MAP_SHARED | MAP_POPULATE }, { "PROT_READ|WRITE MAP_SHARED|MAP_LOCKED", RW, MAP_SHARED | MAP_LOCKED }, { "PROT_READ|WRITE MAP_SHARED_VALIDATE", RW, MAP_SHARED_VALIDATE } };
    int fd = opn(); xen_pfn_t *a = seq(2);
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) {
        void *p = mmap(0, 2 * PG, t[i].prot, t[i].flags, fd, 0); int me = errno;
        if (p == MAP_FAILED) { jbegin(t[i].s); js("mmap_errno", "%s", en(me)); jend(); continue; }
        V2(t[i].s, fd, p, 2, A.id, a, 2, p, 2);
        jbegin("then write"); js("mode", "%s", t[i].s); jwrites("writes", p, 2, 0x99); jpages("pages_after", p, 2);
        void *q = vmaRW(fd, 2); int er[2]; v2(fd, q, 2, A.id, a, er); jpages("seen_through_a_second_mapping", q, 2); jwrites("reset", q, 2, 0); jpages("first_mapping_after_reset_through_second", p, 2); jmaps("maps", p, 2); jvmflags("VmFlags", p); jend();
        munmap(q, 2 * PG); munmap(p, 2 * PG);
    }
    int ro = open(DEV, O_RDONLY); void *p = mmap(0, PG, RW, MAP_SHARED, ro, 0); jbegin("fd opened O_RDONLY: mmap RW shared"); js("errno", "%s", p == MAP_FAILED ? en(errno) : "0"); jend();
    p = mmap(0, PG, PROT_READ, MAP_SHARED, ro, 0); if (p != MAP_FAILED) { V2("fd O_RDONLY, vma RO", ro, p, 1, A.id, a, 1, p, 1); errno = 0; int r = mprotect(p, PG, RW); jbegin("mprotect RW on a vma of an O_RDONLY fd"); jret(r, errno); jend(); }
    p = vmaRW(fd, 1); V2("fd O_RDONLY used for the ioctl, vma RW of another fd", ro, p, 1, A.id, a, 1, p, 1);
}
static void c_same(void)
{
    int fd = opn(); xen_pfn_t a[] = { G(7), G(7), G(7) }; void *p = vmaRW(fd, 3), *q = vmaRW(fd, 1); V2("same gfn three times", fd, p, 3, A.id, a, 3, p, 3); jbegin("write through copy 1"); jwrites("writes", p + PG, 1, 0x55); jpages("pages", p, 3); jend();
    V2("same gfn in a second vma", fd, q, 1, A.id, a, 1, q, 1); jbegin("write through second vma"); jwrites("writes", q, 1, 0x66); jpages("first", p, 3); jend(); munmap(p, 3 * PG); jbegin("munmap of the first vma: second still"); jpages("pages", q, 1); jwrites("writes", q, 1, 0); jend();
    int fd2 = opn(); void *s = vmaRW(fd2, 1); V2("same gfn through another fd", fd2, s, 1, A.id, a, 1, s, 1); jbegin("write there"); jwrites("writes", s, 1, 0x67); jpages("seen in q", q, 1); jwrites("reset", s, 1, 0); jend();
}
static void c_touch(void)
{
    int fd = opn(); void *p = vmaRW(fd, 2); jbegin("touch before any ioctl"); jpages("pages", p, 2); jwrites("writes", p, 2, 1); jmaps("maps", p, 2); jvmflags("VmFlags", p); jend();
    p = vma(fd, 1, PROT_READ, MAP_SHARED); jbegin("touch RO before any ioctl"); jpages("pages", p, 1); jwrites("writes", p, 1, 1); jend();
    p = vma(fd, 1, PROT_NONE, MAP_SHARED); jbegin("touch PROT_NONE before any ioctl"); jpages("pages", p, 1); jend();
    p = vma(fd, 1, RW, MAP_PRIVATE); jbegin("touch MAP_PRIVATE before any ioctl"); jpages("pages", p, 1); jwrites("writes", p, 1, 1); jend();
    xen_pfn_t a[] = { G(0), BAD() }; p = vmaRW(fd, 2); V2("one good one bad", fd, p, 2, A.id, a, 2, p, 2); jbegin("write the failed one"); jwrites("writes", p, 2, 0); jend();
    /* syscalls over mapped and failed pages */
    int z = open("/dev/zero", O_RDONLY), nul = open("/dev/null", O_WRONLY), pp[2]; if (pipe(pp)) return; long r;
    errno = 0; r = write(pp[1], p, 64); jbegin("write(2) from a mapped frame to a pipe"); jret(r, errno); jend(); errno = 0; r = write(pp[1], p + PG, 64); jbegin("write(2) from a failed frame"); jret(r, errno); jend(); errno = 0; r = write(pp[1], p + PG - 32, 64); jbegin("write(2) across mapped|failed"); jret(r, errno); jend();
    errno = 0; r = read(z, p + PG, 64); jbegin("read(2) into a failed frame"); jret(r, errno); jend(); errno = 0; r = read(z, p + PG - 8, 8); jbegin("read(2) into a mapped frame"); jret(r, errno); jend();
    struct iovec l = { (char[64]){ 0 }, 64 }, rm = { p, 64 }; errno = 0; r = process_vm_readv(getpid(), &l, 1, &rm, 1, 0); jbegin("process_vm_readv of a mapped frame"); jret(r, errno); jend();
    int m = open("/proc/self/mem", O_RDWR); errno = 0; r = pread(m, (char[64]){ 0 }, 64, (off_t)(unsigned long)p); jbegin("/proc/self/mem read of a mapped frame"); jret(r, errno); jend();
    errno = 0; r = vmsplice(pp[1], &rm, 1, 0); jbegin("vmsplice of a mapped frame"); jret(r, errno); jend();
    unsigned char vec[2] = { 9, 9 }; errno = 0; r = mincore(p, 2 * PG, vec); jbegin("mincore"); jret(r, errno); js("vec", "%d %d", vec[0], vec[1]); jend(); (void)nul;
    uint64_t pmv[2] = { 0, 0 }; int f = open("/proc/self/pagemap", O_RDONLY); r = pread(f, pmv, 16, ((unsigned long)p >> 12) * 8); jbegin("/proc/self/pagemap of mapped, failed"); js("e0", "0x%llx", (unsigned long long)pmv[0]); js("e1", "0x%llx", (unsigned long long)pmv[1]); jend();
}
static void c_mprot2(void)
{ int fd = opn(); xen_pfn_t *a = seq(2); void *p = vma(fd, 2, PROT_READ, MAP_SHARED); int r; V2("RO vma", fd, p, 2, A.id, a, 2, p, 2); errno = 0; r = mprotect(p, 2 * PG, RW); jbegin("mprotect RO->RW of a mapping made RO"); jret(r, errno); jpages("pages", p, 2); jend(); jbegin("write after it"); jwrites("writes", p, 2, 0x31); jpages("pages", p, 2); jend();
  void *q = vmaRW(fd, 2); int er[2]; v2(fd, q, 2, A.id, a, er); jbegin("seen through a second mapping"); jpages("pages", q, 2); jwrites("reset", q, 2, 0); jend(); }
static void c_mprot4(void) /* vma turned RW before the ioctl */
{ int fd = opn(); xen_pfn_t *a = seq(2); void *p = vma(fd, 2, PROT_READ, MAP_SHARED); int r = mprotect(p, 2 * PG, RW); jbegin("mprotect RO->RW before the ioctl"); jret(r, errno); jend(); V2("then V2", fd, p, 2, A.id, a, 2, p, 2); jbegin("write"); jwrites("writes", p, 2, 0); jend(); }
static void c_mprot5(void)
{ int fd = opn(); xen_pfn_t *a = seq(4); void *p = vmaRW(fd, 4); V2("RW", fd, p, 4, A.id, a, 4, p, 4); errno = 0; int r = mprotect(p + PG, PG, PROT_READ); jbegin("mprotect page 1 RO (splits the vma)"); jret(r, errno); jmaps("maps", p, 4); jpages("pages", p, 4); jwrites("writes", p, 4, 0); jend(); munmap(p, 4 * PG);
  p = vmaRW(fd, 4); r = mprotect(p + PG, PG, PROT_READ); jbegin("mprotect page 1 RO before any ioctl"); jret(r, errno); jmaps("maps", p, 4); jend(); V2("V2 whole range over three vmas", fd, p, 4, A.id, a, 4, p, 4); V2("V2 first vma", fd, p, 1, A.id, a, 1, p, 4); V2("V2 second vma", fd, p + PG, 1, A.id, a + 1, 1, p, 4); V2("V2 third vma", fd, p + 2 * PG, 2, A.id, a + 2, 2, p, 4); jbegin("write"); jwrites("writes", p, 4, 0); jend(); }
static void c_unmap(void)
{
    int fd = opn(); xen_pfn_t *a = seq(6); int r; void *p = vmaRW(fd, 6); V2("six", fd, p, 6, A.id, a, 6, p, 6);
    r = munmap(p, PG); jbegin("munmap first page"); jret(r, errno); jpages("pages", p, 6); jmaps("maps", p, 6); jend();
    r = munmap(p + 5 * PG, PG); jbegin("munmap last page"); jret(r, errno); jpages("pages", p, 6); jend();
    r = munmap(p + 2 * PG, PG); jbegin("munmap a middle page"); jret(r, errno); jpages("pages", p, 6); jmaps("maps", p, 6); jend();
    V2("V2 over the remaining first part (mapped)", fd, p + PG, 1, A.id, a, 1, p, 6); r = munmap(p, 6 * PG); jbegin("munmap all"); jret(r, errno); jpages("pages", p, 6); jend();
    r = munmap(p, 6 * PG); jbegin("munmap again (nothing there)"); jret(r, errno); jend(); r = munmap(p + 1, PG); jbegin("munmap unaligned addr"); jret(r, errno); jend(); r = munmap(p, 0); jbegin("munmap length 0"); jret(r, errno); jend();
    p = vmaRW(fd, 4); r = munmap(p + PG, PG); jbegin("fresh vma, middle page unmapped before any ioctl"); jret(r, errno); jmaps("maps", p, 4); jend(); V2("V2 4 frames from the old start", fd, p, 4, A.id, a, 4, p, 4); V2("V2 first part", fd, p, 1, A.id, a, 1, p, 4); V2("V2 second part", fd, p + 2 * PG, 2, A.id, a + 2, 2, p, 4); munmap(p, 4 * PG);
    xen_pfn_t h[] = { G(0), BAD(), G(2), BAD() }; p = vmaRW(fd, 4); V2("holes 1 3", fd, p, 4, A.id, h, 4, p, 4); munmap(p, PG); xen_pfn_t g = G(30); V2("munmap page 0, retry hole 1", fd, p + PG, 1, A.id, &g, 1, p, 4); V2("retry hole 3", fd, p + 3 * PG, 1, A.id, &g, 1, p, 4); munmap(p, 4 * PG);
}
static void c_mremap_move(void)
{ int fd = opn(); xen_pfn_t *a = seq(2); void *p = vmaRW(fd, 2), *t = mmap(0, 8 * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); V2("two", fd, p, 2, A.id, a, 2, p, 2);
  errno = 0; void *q = mremap(p, 2 * PG, 2 * PG, MREMAP_MAYMOVE | MREMAP_FIXED, t); jbegin("mremap move (same size)"); js("result", "%s", q == MAP_FAILED ? en(errno) : q == t ? "moved" : "?"); jend(); jbegin("old place"); jpages("pages", p, 2); jend(); if (q != MAP_FAILED) { jbegin("new place"); jpages("pages", q, 2); jmaps("maps", q, 2); jend(); jbegin("write new place"); jwrites("writes", q, 2, 0); jend(); V2("V2 on the moved vma", fd, q, 2, A.id, a, 2, q, 2); } }
static void c_mremap_size(void)
{ int fd = opn(); xen_pfn_t *a = seq(4); void *p = vmaRW(fd, 4), *q; V2("four", fd, p, 4, A.id, a, 4, p, 4);
  errno = 0; q = mremap(p, 4 * PG, 8 * PG, MREMAP_MAYMOVE); jbegin("mremap grow MAYMOVE"); js("result", "%s", q == MAP_FAILED ? en(errno) : "ok"); jend(); errno = 0; q = mremap(p, 4 * PG, 8 * PG, 0); jbegin("mremap grow in place"); js("result", "%s", q == MAP_FAILED ? en(errno) : "ok"); jend();
  errno = 0; q = mremap(p, 4 * PG, 2 * PG, 0); jbegin("mremap shrink"); js("result", "%s", q == MAP_FAILED ? en(errno) : "ok"); jpages("pages", p, 4); jend(); errno = 0; q = mremap(p, 0, 2 * PG, MREMAP_MAYMOVE); jbegin("mremap old size 0 (duplicate)"); js("result", "%s", q == MAP_FAILED ? en(errno) : "ok"); if (q != MAP_FAILED) jpages("pages", q, 2); jend();
  errno = 0; q = mremap(p, 2 * PG, 2 * PG, MREMAP_MAYMOVE | MREMAP_DONTUNMAP, 0); jbegin("mremap DONTUNMAP"); js("result", "%s", q == MAP_FAILED ? en(errno) : "ok"); jend(); }
static void c_fork(void)
{
    int fd = opn(); xen_pfn_t *a = seq(2); void *p = vmaRW(fd, 2); V2("parent maps", fd, p, 2, A.id, a, 2, p, 2);
    pid_t c = fork(); if (!c) { jbegin("child"); jmaps("maps", p, 2); jpages("pages", p, 2); jwrites("writes", p, 1, 1); jend(); V2("child: V2 over the inherited address with the inherited fd", fd, p, 2, A.id, a, 2, 0, 0); void *q = vmaRW(fd, 2); V2("child: own vma on the inherited fd", fd, q, 2, A.id, a, 2, q, 2); _exit(0); } waitpid(c, 0, 0);
    jbegin("parent after the child"); jpages("pages", p, 2); jwrites("writes", p, 2, 0); jend();
    void *u = vmaRW(fd, 2); c = fork(); if (!c) { jbegin("child: vma never mapped in the parent"); jmaps("maps", u, 2); jend(); _exit(0); } waitpid(c, 0, 0);
    errno = 0; int r = madvise(p, 2 * PG, MADV_DOFORK); jbegin("madvise DOFORK"); jret(r, errno); jend(); c = fork(); if (!c) { jbegin("child after MADV_DOFORK"); jmaps("maps", p, 2); jpages("pages", p, 2); jend(); _exit(0); } waitpid(c, 0, 0);
}
static void c_madvise(void)
{
    int fd = opn(); xen_pfn_t *a = seq(2); struct { const char *s; int v; } t[] = { { "NORMAL", 0 }, { "RANDOM", 1 }, { "SEQUENTIAL", 2 }, { "WILLNEED", 3 }, { "DONTNEED", 4 }, { "FREE", 8 }, { "REMOVE", 9 }, { "DONTFORK", 10 }, { "DOFORK", 11 }, { "MERGEABLE", 12 }, { "HUGEPAGE", 14 }, { "NOHUGEPAGE", 15 }, { "DONTDUMP", 16 }, { "DODUMP", 17 }, { "WIPEONFORK", 18 }, { "COLD", 20 }, { "PAGEOUT", 21 }, { "POPULATE_READ", 22 }, { "POPULATE_WRITE", 23 }, { "DONTNEED_LOCKED", 24 }, { "COLLAPSE", 25 } };
    for (unsigned i = 0; i < sizeof t / sizeof *t; i++) { void *p = vmaRW(fd, 2); int er[2]; v2(fd, p, 2, A.id, a, er); errno = 0; int r = madvise(p, 2 * PG, t[i].v); int e = errno; char s[40]; snprintf(s, 40, "madvise %s", t[i].s); jbegin(s); jret(r, e); jpages("pages", p, 2); jend(); munmap(p, 2 * PG); }
    void *p = vmaRW(fd, 2); int er[2], r; v2(fd, p, 2, A.id, a, er); errno = 0; r = mlock(p, 2 * PG); jbegin("mlock mapped"); jret(r, errno); jvmflags("VmFlags", p); jpages("pages", p, 2); jend(); errno = 0; r = munlock(p, 2 * PG); jbegin("munlock"); jret(r, errno); jend(); errno = 0; r = msync(p, 2 * PG, MS_SYNC); jbegin("msync MS_SYNC"); jret(r, errno); jend(); errno = 0; r = msync(p, 2 * PG, MS_INVALIDATE); jbegin("msync MS_INVALIDATE"); jret(r, errno); jend(); errno = 0; r = mlockall(MCL_CURRENT); jbegin("mlockall with it present"); jret(r, errno); jpages("pages", p, 2); jend();
    void *u = vmaRW(fd, 2); errno = 0; r = mlock(u, 2 * PG); jbegin("mlock a fresh vma"); jret(r, errno); jpages("pages", u, 2); jend();
}
static void c_close(void)
{ int fd = opn(); xen_pfn_t *a = seq(2), h[] = { G(0), BAD() }; void *p = vmaRW(fd, 2), *q = vmaRW(fd, 2), *f = vmaRW(fd, 2); V2("map", fd, p, 2, A.id, a, 2, p, 2); V2("map with a hole", fd, q, 2, A.id, h, 2, q, 2); int r = close(fd); jbegin("close(fd): mapping then"); jret(r, errno); jpages("pages", p, 2); jwrites("writes", p, 2, 0); jmaps("maps", p, 2); jend();
  int fd2 = opn(); xen_pfn_t g = G(40); V2("hole filled through a new fd", fd2, q + PG, 1, A.id, &g, 1, q, 2); V2("fresh vma of the closed fd mapped through a new fd", fd2, f, 2, A.id, a, 2, f, 2); V2("ioctl on the closed fd", fd == fd2 ? 500 : fd, f, 2, A.id, a, 2, 0, 0); int dv = open("/dev/null", O_RDWR); V2("ioctl on /dev/null", dv, f, 2, A.id, a, 2, 0, 0); }

/* --------------------------------------------------------------- V1 ------ */
static void c_v1(void)
{
    int fd = opn(); xen_pfn_t *a = seq(8), b = BAD(); void *p;
    p = vmaRW(fd, 4); V1("good", fd, p, 4, A.id, a, 4, p, 4); V1("again", fd, p, 4, A.id, a, 4, p, 4); munmap(p, 4 * PG);
    { xen_pfn_t h[] = { G(0), b, G(2), G(3) }; p = vmaRW(fd, 4); V1("bad in the middle", fd, p, 4, A.id, h, 4, p, 4); xen_pfn_t g = G(20); V1("retry of the hole", fd, p + PG, 1, A.id, &g, 1, p, 4); munmap(p, 4 * PG); }
    { xen_pfn_t h[] = { b, b }; p = vmaRW(fd, 2); V1("all bad", fd, p, 2, A.id, h, 2, p, 2); V2("V2 retry after V1 failure", fd, p, 2, A.id, a, 2, p, 2); munmap(p, 2 * PG); }
    { xen_pfn_t h[] = { 1ULL << 32, 1ULL << 40, (1ULL << 52) | G(5), ~0ULL, 0xf0000000ULL, 0x80000000ULL, 0xffffffffULL, 0x123456789abcULL }; p = vmaRW(fd, 8); V1("huge gfns: 2^32 2^40 2^52|g5 ~0 0xf0000000 0x80000000 0xffffffff 0x123456789abc", fd, p, 8, A.id, h, 8, p, 8); munmap(p, 8 * PG); }
    p = vmaRW(fd, 2); V1("domid 999", fd, p, 2, 999, a, 2, p, 2); munmap(p, 2 * PG); p = vmaRW(fd, 2); V1("domid SELF", fd, p, 2, 0x7ff0, a, 2, p, 2); munmap(p, 2 * PG); p = vmaRW(fd, 2); V1("domid XEN", fd, p, 2, 0x7ff2, a, 2, p, 2); munmap(p, 2 * PG);
    p = vmaRW(fd, 4); V1("num 0", fd, p, 0, A.id, a, 4, p, 4); V1("num -1", fd, p, -1, A.id, a, 4, p, 4); V1("num 3 of 4", fd, p, 3, A.id, a, 4, p, 4); V1("num 5 of 4", fd, p, 5, A.id, a, 5, p, 4); V1("vma+page num 3", fd, p + PG, 3, A.id, a, 3, p, 4); V1("vma+8", fd, p + 8, 4, A.id, a, 4, p, 4);
    errno = 0; int r = v1(fd, p, 4, A.id, NULL); jbegin("arr NULL"); jret(r, errno); jend(); errno = 0; r = v1(fd, p, 4, A.id, (void *)0xffff888000000000UL); jbegin("arr kernel pointer"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH, NULL); jbegin("argument NULL"); jret(r, errno); jend();
    { xen_pfn_t *ro = mmap(0, PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); ro[0] = G(0); ro[1] = b; ro[2] = G(2); ro[3] = G(3); mprotect(ro, PG, PROT_READ); errno = 0; r = v1(fd, p, 4, A.id, ro); jbegin("arr read only, one bad"); jret(r, errno); jpages("pages", p, 4); jend(); munmap(p, 4 * PG); p = vmaRW(fd, 4); mprotect(ro, PG, RW); ro[1] = G(1); mprotect(ro, PG, PROT_READ); errno = 0; r = v1(fd, p, 4, A.id, ro); jbegin("arr read only, all good"); jret(r, errno); jpages("pages", p, 4); jend(); }
    p = mmap(0, 4 * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); V1("anonymous memory", fd, p, 4, A.id, a, 4, p, 0);
    p = vma(fd, 2, PROT_READ, MAP_SHARED); V1("RO vma", fd, p, 2, A.id, a, 2, p, 2); jbegin("write"); jwrites("writes", p, 1, 1); jend();
}
/* --------------------------------------------------------------- MMAP ---- */
#define E(v, m, n) { (unsigned long)(v), (m), (n) }
static void c_mmap(void)
{
    int fd = opn(); void *p; xen_pfn_t b = BAD();
    { p = vmaRW(fd, 4); privcmd_mmap_entry_t e[] = { E(p, G(1), 1) }; MM("one entry of 1 page in a vma of 4", fd, 1, A.id, e, 1, p, p, 4); MM("second MMAP on the same vma", fd, 1, A.id, e, 1, p, p, 4); privcmd_mmap_entry_t e2[] = { E(p + PG, G(2), 1) }; MM("second MMAP at vma+1", fd, 1, A.id, e2, 1, p, p, 4); xen_pfn_t *a = seq(4); V2("V2 on pages 1..3 of it", fd, p + PG, 3, A.id, a + 1, 3, p, 4); munmap(p, 4 * PG); }
    { p = vmaRW(fd, 4); privcmd_mmap_entry_t e[] = { E(p, G(1), 1), E(p + PG, G(3), 1), E(p + 2 * PG, G(2), 2) }; MM("three entries contiguous in va", fd, 3, A.id, e, 3, p, p, 4); jbegin("write"); jwrites("writes", p, 4, 0); jend(); munmap(p, 4 * PG); }
    { p = vmaRW(fd, 4); privcmd_mmap_entry_t e[] = { E(p, G(1), 1), E(p + 2 * PG, G(3), 1) }; MM("gap in va", fd, 2, A.id, e, 2, p, p, 4); MM("MMAP again after that failure", fd, 1, A.id, e, 1, p, p, 4); munmap(p, 4 * PG); }
    { p = vmaRW(fd, 4); privcmd_mmap_entry_t e[] = { E(p, G(1), 2), E(p + PG, G(3), 1) }; MM("entry overlaps the previous", fd, 2, A.id, e, 2, p, p, 4); munmap(p, 4 * PG); }
    { p = vmaRW(fd, 4); privcmd_mmap_entry_t e[] = { E(p + PG, G(1), 1) }; MM("first va not at vma start", fd, 1, A.id, e, 1, p, p, 4); privcmd_mmap_entry_t e2[] = { E(p + 8, G(1), 1) }; MM("va unaligned", fd, 1, A.id, e2, 1, p, p, 4); privcmd_mmap_entry_t e3[] = { E(p, G(1), 4) }; MM("then right", fd, 1, A.id, e3, 1, p, p, 4); munmap(p, 4 * PG); }
    { p = vmaRW(fd, 4); privcmd_mmap_entry_t e[] = { E(p, G(1), 0) }; MM("npages 0 alone", fd, 1, A.id, e, 1, p, p, 4); munmap(p, 4 * PG); p = vmaRW(fd, 4); privcmd_mmap_entry_t e2[] = { E(p, G(1), 0), E(p, G(2), 1) }; MM("npages 0 then 1 page at the same va", fd, 2, A.id, e2, 2, p, p, 4); munmap(p, 4 * PG); }
    { p = vmaRW(fd, 4); privcmd_mmap_entry_t e[] = { E(p, G(1), 5) }; MM("npages past the vma", fd, 1, A.id, e, 1, p, p, 4); munmap(p, 4 * PG); p = vmaRW(fd, 4); privcmd_mmap_entry_t e2[] = { E(p, G(1), 2), E(p + 2 * PG, G(5), 3) }; MM("second entry past the vma", fd, 2, A.id, e2, 2, p, p, 4); munmap(p, 4 * PG); }
    { unsigned long n[] = { ~0UL, 1UL << 51, 1UL << 52, (1UL << 51) - 1, 1UL << 35 }; for (int i = 0; i < 5; i++) { p = vmaRW(fd, 1); privcmd_mmap_entry_t e[] = { E(p, G(1), n[i]) }; MM("npages huge", fd, 1, A.id, e, 1, p, p, 1); munmap(p, PG); } }
    { p = vmaRW(fd, 3); privcmd_mmap_entry_t e[] = { E(p, G(1), 1), E(p + PG, b, 1), E(p + 2 * PG, G(3), 1) }; MM("bad mfn in the 2nd of 3 entries", fd, 3, A.id, e, 3, p, p, 3); MM("retry whole", fd, 1, A.id, e, 1, p, p, 3); xen_pfn_t a[] = { G(8), G(9) }; V2("V2 fills the rest", fd, p + PG, 2, A.id, a, 2, p, 3); munmap(p, 3 * PG); }
    { p = vmaRW(fd, 3); privcmd_mmap_entry_t e[] = { E(p, b, 1) }; MM("only entry bad", fd, 1, A.id, e, 1, p, p, 3); munmap(p, 3 * PG); }
    { xen_pfn_t last = G(NFR - 1); p = vmaRW(fd, 24); privcmd_mmap_entry_t e[] = { E(p, last - 1, 4) }; MM("one entry running past the end of the domain's frames (last-1, 4 pages)", fd, 1, A.id, e, 1, p, p, 24); munmap(p, 24 * PG); p = vmaRW(fd, 24); privcmd_mmap_entry_t e2[] = { E(p, last - 17, 24) }; MM("one entry last-17, 24 pages (crosses batches of 16)", fd, 1, A.id, e2, 1, p, p, 24); munmap(p, 24 * PG); }
    { p = vmaRW(fd, 2); privcmd_mmap_entry_t e[] = { E(p, G(1), 1) }; MM("num 0", fd, 0, A.id, e, 1, p, p, 2); MM("num -1", fd, -1, A.id, e, 1, p, p, 2); MM("domid 999", fd, 1, 999, e, 1, p, p, 2); munmap(p, 2 * PG); p = vmaRW(fd, 2); e[0].va = (unsigned long)p; MM("domid SELF", fd, 1, 0x7ff0, e, 1, p, p, 2); munmap(p, 2 * PG); p = vmaRW(fd, 2); e[0].va = (unsigned long)p; MM("domid XEN", fd, 1, 0x7ff2, e, 1, p, p, 2); munmap(p, 2 * PG); p = vmaRW(fd, 2); e[0].va = (unsigned long)p; MM("domid INVALID", fd, 1, 0x7ff4, e, 1, p, p, 2); munmap(p, 2 * PG); }
    { p = vmaRW(fd, 2); errno = 0; int r = mm(fd, 1, A.id, NULL); jbegin("entry NULL"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_MMAP, NULL); jbegin("argument NULL"); jret(r, errno); jend(); }
    { p = vmaRW(fd, 2); privcmd_mmap_entry_t e[] = { E(p, G(1), 1) }; int fd2 = opn(); MM("vma of another privcmd fd", fd2, 1, A.id, e, 1, p, p, 2); munmap(p, 2 * PG); }
    { p = vma(fd, 2, PROT_READ, MAP_SHARED); privcmd_mmap_entry_t e[] = { E(p, G(1), 2) }; MM("RO vma", fd, 1, A.id, e, 1, p, p, 2); jbegin("write"); jwrites("writes", p, 1, 1); jend(); }
    { p = vmaRW(fd, 2); xen_pfn_t a[] = { G(0), b }; V2("V2 with a hole first", fd, p, 2, A.id, a, 2, p, 2); privcmd_mmap_entry_t e[] = { E(p, G(1), 2) }; MM("then MMAP over it", fd, 1, A.id, e, 1, p, p, 2); }
}
static void c_mmap_anon(void) /* the va's vma is not checked for privcmd's ops: anonymous memory */
{ int fd = opn(); char *p = mmap(0, 2 * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); privcmd_mmap_entry_t e[] = { E(p, G(1), 1) }; jbegin("about to MMAP over anonymous memory"); jend(); MM("anonymous memory", fd, 1, A.id, e, 1, p, p, 2); }

/* ----------------------------------------------------------- restrict ---- */
static int hcall_version(int fd) { privcmd_hypercall_t h = { .op = 17 /* xen_version */, .arg = { 0 } }; return ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, &h); }
static int restr(int fd, int d) { domid_t x = d; return ioctl(fd, IOCTL_PRIVCMD_RESTRICT, &x); }
static void c_restrict(void)
{
    int fd = opn(), r; xen_pfn_t *a = seq(2); uint64_t n; void *pre = vmaRW(fd, 2), *preb = vmaRW(fd, 2), *hole = vmaRW(fd, 2); xen_pfn_t hb[] = { B.fr[0], BAD() };
    V2("before: map A", fd, pre, 2, A.id, a, 2, pre, 2); V2("before: map B", fd, preb, 2, B.id, B.fr, 2, preb, 2); V2("before: map B with a hole", fd, hole, 2, B.id, hb, 2, hole, 2);
    errno = 0; r = hcall_version(fd); jbegin("hypercall before"); jret(r, errno); jend();
    errno = 0; r = restr(fd, A.id); jbegin("restrict to A"); jret(r, errno); jend(); errno = 0; r = restr(fd, A.id); jbegin("restrict to A again"); jret(r, errno); jend(); errno = 0; r = restr(fd, B.id); jbegin("restrict to B after A"); jret(r, errno); jend(); errno = 0; r = restr(fd, 0x7ff4); jbegin("restrict to DOMID_INVALID after A"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_RESTRICT, NULL); jbegin("restrict NULL"); jret(r, errno); jend();
    errno = 0; r = hcall_version(fd); jbegin("hypercall after restrict"); jret(r, errno); jend(); jbegin("old mappings of A and B"); jpages("A", pre, 2); jpages("B", preb, 2); jwrites("writesB", preb, 2, 0); jend();
    void *p = vmaRW(fd, 2); V2("V2 A", fd, p, 2, A.id, a, 2, p, 2); p = vmaRW(fd, 2); V2("V2 B", fd, p, 2, B.id, B.fr, 2, p, 2); V1("V1 B", fd, p, 2, B.id, B.fr, 2, p, 2); V2("V2 B bad addr as well", fd, (void *)16, 2, B.id, B.fr, 2, 0, 0); V2("V2 B num 0 as well", fd, p, 0, B.id, B.fr, 2, 0, 0); { int er[2]; errno = 0; r = v2(fd, p, 2, B.id, NULL, er); jbegin("V2 B arr NULL as well"); jret(r, errno); jend(); } V2("V2 hole of B", fd, hole + PG, 1, B.id, B.fr + 1, 1, hole, 2);
    V2("V2 SELF", fd, p, 2, 0x7ff0, a, 2, p, 2); V2("V2 domid 0", fd, p, 2, 0, a, 2, p, 2); V2("V2 999", fd, p, 2, 999, a, 2, p, 2);
    privcmd_mmap_entry_t e[] = { E(p, B.fr[0], 1) }; MM("MMAP B", fd, 1, B.id, e, 1, p, p, 2); privcmd_mmap_entry_t e2[] = { E(p, G(0), 1) }; MM("MMAP A", fd, 1, A.id, e2, 1, p, p, 2);
    n = 0; errno = 0; r = res(fd, A.id, 1, 0, 0, &n, 0); jbegin("RESOURCE size A grant table"); jret(r, errno); ji("num", n); jend(); n = 0; errno = 0; r = res(fd, B.id, 1, 0, 0, &n, 0); jbegin("RESOURCE size B grant table"); jret(r, errno); jend(); n = 1; errno = 0; r = res(fd, B.id, 1, 0, 0, &n, 0); jbegin("RESOURCE B addr 0 num 1"); jret(r, errno); jend();
    privcmd_dm_op_t d = { .dom = B.id, .num = 0 }; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_DM_OP, &d); jbegin("DM_OP B num 0"); jret(r, errno); jend(); d.dom = A.id; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_DM_OP, &d); jbegin("DM_OP A num 0"); jret(r, errno); jend();
    int fd2 = opn(); p = vmaRW(fd, 2); V2("unrestricted fd maps B into the restricted fd's vma", fd2, p, 2, B.id, B.fr, 2, p, 2); p = vmaRW(fd2, 2); V2("restricted fd maps A into an unrestricted fd's vma", fd, p, 2, A.id, a, 2, p, 2);
    int du = dup(fd); errno = 0; r = hcall_version(du); jbegin("dup of the restricted fd: hypercall"); jret(r, errno); jend();
    errno = 0; r = restr(fd2, 0x7ff4); jbegin("fresh fd: restrict to DOMID_INVALID"); jret(r, errno); jend(); errno = 0; r = hcall_version(fd2); jbegin("hypercall on it"); jret(r, errno); jend(); errno = 0; r = restr(fd2, 999); jbegin("then restrict to nonexistent 999"); jret(r, errno); jend(); p = vmaRW(fd2, 2); V2("V2 999 on it", fd2, p, 2, 999, a, 2, p, 2); V2("V2 A on it", fd2, p, 2, A.id, a, 2, p, 2); errno = 0; r = restr(fd2, 0xffff); jbegin("restrict 0xffff after 999"); jret(r, errno); jend();
}
/* ----------------------------------------------------------- resource ---- */
static void RS(const char *s, int fd, int dom, unsigned type, unsigned id, unsigned idx, uint64_t num, void *addr, int show)
{ uint64_t n = num; errno = 0; int r = res(fd, dom, type, id, idx, &n, addr), e = errno; jbegin(s); js("ioctl", "MMAP_RESOURCE"); ji("domid", dom); ji("type", type); ji("id", id); ji("idx", idx); js("num_in", "0x%llx", (unsigned long long)num); js("addr", "%s", addr ? "vma" : "0"); jret(r, e); js("num_out", "0x%llx", (unsigned long long)n); if (show) jpages("pages", addr, show); jend(); }
static void c_res(void)
{
    int fd = opn(); void *p; int d = A.id;
    RS("size grant_table shared", fd, d, 1, 0, 0, 0, 0, 0); RS("size grant_table status", fd, d, 1, 1, 0, 0, 0, 0); RS("size grant_table id 2", fd, d, 1, 2, 0, 0, 0, 0); RS("size vmtrace", fd, d, 2, 0, 0, 0, 0, 0); RS("size type 3", fd, d, 3, 0, 0, 0, 0, 0); RS("size type 0x10001 (wider than 16 bits)", fd, d, 0x10001, 0, 0, 0, 0, 0); RS("size ioreq server 0", fd, d, 0, 0, 0, 0, 0, 0); RS("size ioreq server 1000", fd, d, 0, 1000, 0, 0, 0, 0); RS("size domid 999", fd, 999, 1, 0, 0, 0, 0, 0); RS("size SELF", fd, 0x7ff0, 1, 0, 0, 0, 0, 0); RS("size domid 0", fd, 0, 1, 0, 0, 0, 0, 0); RS("size with idx 7", fd, d, 1, 0, 7, 0, 0, 0);
#define RF(step, vp0, dom, type, id, idx, num) do { int vp = d0pvh && (num) < 64 ? (int)(num) : (vp0); p = vmaRW(fd, vp); RS(step, fd, dom, type, id, idx, num, p, vp); munmap(p, (vp) * PG); } while (0)
    p = vmaRW(fd, 4); RS("addr set, num 0", fd, d, 1, 0, 0, 0, p, 0); RS("addr 0, num 1", fd, d, 1, 0, 0, 1, 0, 0); munmap(p, 4 * PG);
    if (!d0pvh) { p = vmaRW(fd, 4); RS("map grant shared idx 0 num 1 at the start of a vma of 4", fd, d, 1, 0, 0, 1, p, 4); { RS("map again over it", fd, d, 1, 0, 0, 1, p, 4); errno = 0; uint64_t n1 = 1; int r1 = res(fd, d, 1, 0, 0, &n1, p + PG), e1 = errno; jbegin("map the same at vma+1"); jret(r1, e1); jpages("pages", p, 4); jend(); } { xen_pfn_t *a = seq(4); V2("V2 page 3 of this vma", fd, p + 3 * PG, 1, d, a, 1, p, 4); V2("V2 page 0", fd, p, 1, d, a, 1, p, 4); } munmap(p, 4 * PG); }
    { xen_pfn_t b2[] = { G(0), BAD() }; p = vmaRW(fd, 2); V2("V2 with a hole, then RESOURCE", fd, p, 2, d, b2, 2, p, 2); if (!d0pvh) { errno = 0; uint64_t n1 = 1; int r1 = res(fd, d, 1, 0, 0, &n1, p + PG), e1 = errno; jbegin("RESOURCE into the hole"); jret(r1, e1); jpages("pages", p, 2); jend(); errno = 0; r1 = res(fd, d, 1, 0, 0, &n1, p), e1 = errno; jbegin("RESOURCE over the mapped page"); jret(r1, e1); jpages("pages", p, 2); jend(); } munmap(p, 2 * PG); }
    if (!d0pvh) { p = vmaRW(fd, 4); { errno = 0; uint64_t n1 = 1; int r1 = res(fd, d, 1, 0, 0, &n1, p + PG), e1 = errno; jbegin("first call at vma+1, num 1"); jret(r1, e1); jpages("pages", p, 4); jend(); } munmap(p, 4 * PG); }
    p = vmaRW(fd, 4); RS("map grant shared num 4 (max_grant_frames 4)", fd, d, 1, 0, 0, 4, p, 4); jbegin("write"); jwrites("writes", p, 4, 0); jend(); munmap(p, 4 * PG);
    RF("idx 3 num 1", 1, d, 1, 0, 3, 1); RF("idx 4 num 1 (past the end)", 1, d, 1, 0, 4, 1); RF("idx 3 num 2 (runs past the end)", 2, d, 1, 0, 3, 2); RF("num 5 of 4", 5, d, 1, 0, 0, 5); RF("num 2^32+1", 2, d, 1, 0, 0, (1ULL << 32) + 1); RF("num 2^40", 2, d, 1, 0, 0, 1ULL << 40); RF("num ~0", 2, d, 1, 0, 0, ~0ULL); RF("num 2^20", 2, d, 1, 0, 0, 1ULL << 20);
    p = vmaRW(fd, d0pvh ? 1 : 2); { errno = 0; uint64_t n1 = 1; int r1 = res(fd, d, 1, 0, 0, &n1, p + 8), e1 = errno; jbegin("addr unaligned vma+8, num 1"); jret(r1, e1); jpages("pages", p, d0pvh ? 1 : 2); jend(); } munmap(p, (d0pvh ? 1 : 2) * PG); p = mmap(0, 2 * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); RS("anonymous memory", fd, d, 1, 0, 0, 1, p, 0); munmap(p, 2 * PG); RS("unmapped address", fd, d, 1, 0, 0, 1, p, 0);
    { char *q = mmap(0, 8 * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(q, 8 * PG); p = mmap(q + 2 * PG, 2 * PG, RW, MAP_SHARED | MAP_FIXED, fd, 0); if (!d0pvh) { errno = 0; uint64_t n1 = 1; int r1 = res(fd, d, 1, 0, 0, &n1, q + PG), e1 = errno; jbegin("addr in the hole one page below a vma (find_vma gives that vma)"); jret(r1, e1); js("page_at_addr", "%s", view(q + PG)); jpages("vma_pages", p, 2); jend(); } munmap(q, 8 * PG); }
    RF("map domid 999", 1, 999, 1, 0, 0, 1); RF("map wrong type 3", 1, d, 3, 0, 0, 1); RF("map type 0x10001", 1, d, 0x10001, 0, 0, 1); RF("map wrong id 2", 1, d, 1, 2, 0, 1); RF("map vmtrace", 1, d, 2, 0, 0, 1); RF("map SELF grant", 1, 0x7ff0, 1, 0, 0, 1); RF("map domid 0 grant", 1, 0, 1, 0, 0, 1); RF("map domid XEN", 1, 0x7ff2, 1, 0, 0, 1);
    p = vmaRW(fd, 1); RS("map domid 999 again", fd, 999, 1, 0, 0, 1, p, 1); { xen_pfn_t *a = seq(1); V2("V2 on a vma where RESOURCE failed", fd, p, 1, d, a, 1, p, 1); } munmap(p, PG);
    p = vma(fd, 1, PROT_READ, MAP_SHARED); RS("RO vma", fd, d, 1, 0, 0, 1, p, 1); jbegin("write"); jwrites("writes", p, 1, 1); jend(); munmap(p, PG);
    RF("map grant status idx 0 (guest uses v1)", 1, d, 1, 1, 0, 1); errno = 0; int r = ioctl(fd, IOCTL_PRIVCMD_MMAP_RESOURCE, NULL); jbegin("argument NULL"); jret(r, errno); jend();
    if (ttype == T_HVM || ttype == T_SHADOW || ttype == T_PVH) {
        xendevicemodel_handle *dm = xendevicemodel_open(0, 0); ioservid_t id = 0; errno = 0; r = xendevicemodel_create_ioreq_server(dm, d, HVM_IOREQSRV_BUFIOREQ_ATOMIC, &id); jbegin("create ioreq server"); jret(r, errno); ji("id", id); jend();
        RS("ioreq size", fd, d, 0, id, 0, 0, 0, 0); p = vmaRW(fd, 2); RS("ioreq map idx 0 num 2", fd, d, 0, id, 0, 2, p, 2); jbegin("write"); jwrites("writes", p, 2, 0x1); jpages("pages", p, 2); jend(); void *q = vmaRW(fd, 1); RS("ioreq map idx 1 num 1 again", fd, d, 0, id, 1, 1, q, 1); jbegin("write through first, see in second"); jwrites("writes", p + PG, 1, 0x2); jpages("pages", q, 1); jend(); munmap(q, PG); q = vmaRW(fd, 1); RS("ioreq idx 2 (past the end)", fd, d, 0, id, 2, 1, q, 1); munmap(q, PG); q = vmaRW(fd, 1); RS("ioreq wrong id", fd, d, 0, id + 1, 0, 1, q, 1); munmap(q, PG); q = vmaRW(fd, 3); RS("ioreq idx 0 num 3", fd, d, 0, id, 0, 3, q, 3); munmap(q, 3 * PG);
        errno = 0; r = xendevicemodel_destroy_ioreq_server(dm, d, id); jbegin("destroy ioreq server while mapped"); jret(r, errno); jpages("pages", p, 2); jend(); if (r) { munmap(p, 2 * PG); errno = 0; r = xendevicemodel_destroy_ioreq_server(dm, d, id); jbegin("destroy again after munmap"); jret(r, errno); jend(); } else { munmap(p, 2 * PG); } }
}
/* ------------------------------------------------------------ lifetime --- */
static void c_life_destroy(void)
{
    struct dom D; if (mkdom(&D, ttype, 'D')) return; int fd = opn(); void *p = vmaRW(fd, 4), *hole = vmaRW(fd, 2), *fresh = vmaRW(fd, 1), *fresh2 = vmaRW(fd, 1), *x1 = vmaRW(fd, 1); xen_pfn_t h[] = { D.fr[0], BAD() }; V2("map g9 of D", fd, x1, 1, D.id, D.fr + 9, 1, x1, 1);
    V2("map 4 of D", fd, p, 4, D.id, D.fr, 4, p, 4); V2("map D with a hole", fd, hole, 2, D.id, h, 2, hole, 2); jbegin("before destroy"); jdominfo("D", D.id); jend();
    struct timespec a, b; clock_gettime(CLOCK_MONOTONIC, &a); errno = 0; int r = xc_domain_destroy(xch, D.id), e = errno; clock_gettime(CLOCK_MONOTONIC, &b); jbegin("xc_domain_destroy with 5 page mappings held"); jret(r, e); ji("ms", (b.tv_sec - a.tv_sec) * 1000 + (b.tv_nsec - a.tv_nsec) / 1000000); jdominfo("D", D.id); jpages("pages", p, 4); jwrites("writes", p, 4, 0x11); jpages("pages_after_write", p, 4); jend();
    V2("new map of a still-held frame of the dying domain", fd, fresh, 1, D.id, D.fr + 1, 1, fresh, 1); V2("new map of a released frame of the dying domain", fd, fresh2, 1, D.id, D.fr + 50, 1, fresh2, 1); V2("hole retry in the dying domain", fd, hole + PG, 1, D.id, D.fr + 2, 1, hole, 2);
    if (ttype != T_PV || d0pvh) { xen_pfn_t g99 = D.fr[99]; void *q = vmaRW(fd, 1); V2("yet another frame of the dying domain", fd, q, 1, D.id, &g99, 1, q, 1); munmap(q, PG); }
    { void *q = vmaRW(fd, 1); xen_pfn_t g = D.fr[1]; V1("V1 on the dying domain", fd, q, 1, D.id, &g, 1, q, 1); munmap(q, PG); q = vmaRW(fd, 1); privcmd_mmap_entry_t en_[] = { E(q, D.fr[1], 1) }; MM("MMAP on the dying domain", fd, 1, D.id, en_, 1, q, q, 1); munmap(q, PG); q = vmaRW(fd, 1); RS("RESOURCE size on the dying domain", fd, D.id, 1, 0, 0, 0, 0, 0); RS("RESOURCE map on the dying domain", fd, D.id, 1, 0, 0, 1, q, 1); munmap(q, PG); }
    errno = 0; r = xc_domain_destroy(xch, D.id); e = errno; jbegin("destroy again"); jret(r, e); jend(); errno = 0; r = xc_domain_unpause(xch, D.id); e = errno; jbegin("unpause the dying domain"); jret(r, e); jend();
    munmap(fresh, PG); munmap(fresh2, PG); munmap(hole, 2 * PG); jbegin("after munmap of the hole vma"); jdominfo("D", D.id); jend(); munmap(x1, PG); jbegin("after munmap of g9"); jdominfo("D", D.id); jpages("pages", p, 4); jend(); munmap(p, 4 * PG);
    jbegin("after munmap of all"); jdominfo("D", D.id); jend(); for (int i = 0; i < 20; i++) { xc_domaininfo_t di; int n = xc_domain_getinfolist(xch, D.id, 1, &di); if (n != 1 || di.domain != D.id) break; usleep(100000); } jbegin("up to 2 s later"); jdominfo("D", D.id); jend(); p = vmaRW(fd, 1); V2("map of the gone domain", fd, p, 1, D.id, D.fr, 1, p, 1);
}
static void c_life_none(void)
{ struct dom D; if (mkdom(&D, ttype, 'D')) return; int r = xc_domain_destroy(xch, D.id); jbegin("destroy with nothing mapped"); jret(r, errno); jdominfo("D", D.id); jend(); int fd = opn(); void *p = vmaRW(fd, 1); V2("map after", fd, p, 1, D.id, D.fr, 1, p, 1); }
static void c_life_balloon(void)
{
    struct dom D; if (mkdom(&D, ttype, 'D')) return; int fd = opn(), r; void *p = vmaRW(fd, 4); V2("map 4", fd, p, 4, D.id, D.fr, 4, p, 4); jbegin("info"); jdominfo("D", D.id); jend();
    xen_pfn_t x[1] = { D.fr[1] }; errno = 0; r = xc_domain_decrease_reservation(xch, D.id, 1, 0, x); jbegin("decrease_reservation of mapped frame 1"); jret(r, errno); jdominfo("D", D.id); jpages("pages", p, 4); jwrites("writes", p + PG, 1, 0x21); jpages("pages_after_write", p, 4); jend();
    void *q = vmaRW(fd, 1); V2("map the ballooned-out frame (still held by the first mapping)", fd, q, 1, D.id, D.fr + 1, 1, q, 1); munmap(q, PG);
    xen_pfn_t y[1] = { D.fr[60] }; errno = 0; r = xc_domain_decrease_reservation(xch, D.id, 1, 0, y); jbegin("decrease_reservation of unmapped frame 60"); jret(r, errno); jdominfo("D", D.id); jend(); q = vmaRW(fd, 1); V2("map ballooned-out frame 60", fd, q, 1, D.id, D.fr + 60, 1, q, 1); munmap(q, PG);
    xen_pfn_t z[1] = { 1 }; errno = 0; r = xc_domain_populate_physmap_exact(xch, D.id, 1, 0, 0, z); jbegin("populate gfn 1 again while the old mapping is held"); jret(r, errno); js("new_frame", "0x%llx", (unsigned long long)z[0]); js("old_frame", "0x%llx", (unsigned long long)D.fr[1]); jdominfo("D", D.id); jpages("old mapping", p, 4); jend(); q = vmaRW(fd, 1); V2("map gfn 1 again", fd, q, 1, D.id, z, 1, q, 1); jbegin("write new, look at old"); jwrites("writes", q, 1, 0x33); jpages("new", q, 1); jpages("old", p, 4); jend();
    munmap(p, 4 * PG); jbegin("after munmap of the old mapping"); jdominfo("D", D.id); jpages("new", q, 1); jend(); { void *s = vmaRW(fd, 1); V2("map old frame number after munmap", fd, s, 1, D.id, D.fr + 1, 1, s, 1); munmap(s, PG); } munmap(q, PG); xc_domain_destroy(xch, D.id); jbegin("end"); jdominfo("D", D.id); jend();
}
/* ------------------------------------------------------------- threads --- */
struct thr { int fd; void *p; unsigned n; xen_pfn_t *a; pthread_barrier_t *b; int r, e; int err[512]; };
static void *thr_v2(void *x) { struct thr *t = x; pthread_barrier_wait(t->b); errno = 0; t->r = v2(t->fd, t->p, t->n, A.id, t->a, t->err); t->e = errno; return 0; }
static void *thr_un(void *x) { struct thr *t = x; pthread_barrier_wait(t->b); errno = 0; t->r = munmap(t->p, t->n * PG); t->e = errno; return 0; }
/* -------------------------------------------------------------- limits --- */
static double now(void) { struct timespec a; clock_gettime(CLOCK_MONOTONIC, &a); return a.tv_sec * 1e9 + a.tv_nsec; }
static void c_time(void)
{
    int fd = opn(); int ns[] = { 1, 16, 256, 4096, 65536 };
    for (int i = 0; i < 5; i++) { int n = ns[i], reps = n <= 256 ? 200 : n == 4096 ? 10 : 2; xen_pfn_t *a = malloc(n * 8L); int *err = malloc(n * 4L); for (int k = 0; k < n; k++) a[k] = G(k % NFR); double best = 1e18, tot = 0, ub = 1e18; int bad = 0;
        for (int r = 0; r < reps; r++) { void *p = vmaRW(fd, n); double t0 = now(); bad += v2(fd, p, n, A.id, a, err) != 0; double t = now() - t0; tot += t; if (t < best) best = t; t0 = now(); munmap(p, n * PG); t = now() - t0; if (t < ub) ub = t; }
        jbegin("V2 time (TCG emulation, indicative only)"); ji("frames", n); ji("reps", reps); ji("failed", bad); ji("best_ns_per_frame", best / n); ji("mean_ns_per_frame", tot / reps / n); ji("best_ns_per_call", best); ji("munmap_best_ns_per_frame", ub / n); jend(); free(a); free(err); }
}
static void c_big(void)
{
    int fd = opn(); unsigned long ns[] = { 65536, 262144, 524288, 1048576, 2097152, 4194304 };
    for (int i = 0; i < 6; i++) { unsigned long n = ns[i]; xen_pfn_t *a = mmap(0, n * 8, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0); int *err = mmap(0, n * 4, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0); if (a == MAP_FAILED || err == MAP_FAILED) { jbegin("no memory for arrays"); jend(); break; } for (unsigned long k = 0; k < n; k++) a[k] = G(k % NFR); void *p = mmap(0, n * PG, RW, MAP_SHARED, fd, 0); if (p == MAP_FAILED) { jbegin("mmap"); js("errno", "%s", en(errno)); jend(); break; } double t0 = now(); errno = 0; int r = v2(fd, p, n, A.id, a, err), e = errno; double t = now() - t0; unsigned long bad = 0; for (unsigned long k = 0; k < n; k++) bad += !!err[k]; jbegin("one V2 call"); ji("frames", n); jret(r, e); ji("frames_with_error", bad); if (bad) js("err_last", "%s", en(-err[n - 1])); js("first", "%s", view(p)); js("last", "%s", view(p + (n - 1) * PG)); ji("ns_per_frame_tcg", t / n); jend(); munmap(p, n * PG); munmap(a, n * 8); munmap(err, n * 4); }
}
static void c_manyvma(void)
{ int fd = opn(), n = 0; xen_pfn_t g = G(0); int er = 0, r = 0, e = 0; for (; n < 70000; n++) { void *p = mmap(0, PG, (n & 1) ? RW : PROT_READ, MAP_SHARED, fd, 0); if (p == MAP_FAILED) { e = errno; break; } r = v2(fd, p, 1, A.id, &g, &er); if (r || er) { e = errno; break; } } jbegin("one-frame vmas until failure (vm.max_map_count)"); ji("made", n); ji("ret", r); ji("err", er); js("errno", "%s", en(e)); jend(); }
static void c_ioctls(void)
{
    int fd = opn(), r; privcmd_mmapbatch_v2_t m; memset(&m, 0, sizeof m); char s[80];
    for (int nr = 0; nr < 16; nr++) { if (nr == 0 || (nr >= 2 && nr <= 7)) continue; errno = 0; r = ioctl(fd, _IOC(_IOC_NONE, 'P', nr, 32), &m); snprintf(s, 80, "unknown nr %d", nr); jbegin(s); jret(r, errno); jend(); }
    errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_UNIMPLEMENTED, NULL); jbegin("IOCTL_PRIVCMD_UNIMPLEMENTED (0xff)"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, _IOC(_IOC_NONE, 'P', 4, 0), &m); jbegin("V2's nr with size 0"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, _IOC(_IOC_NONE, 'P', 4, sizeof(m) + 8), &m); jbegin("V2's nr with a larger size"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, _IOC(_IOC_READ | _IOC_WRITE, 'P', 4, sizeof m), &m); jbegin("V2's nr with direction RW"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, _IOC(_IOC_NONE, 'Q', 4, sizeof m), &m); jbegin("type Q"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, 0, 0); jbegin("cmd 0"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, 0x5401, &m); jbegin("TCGETS"); jret(r, errno); jend();
    jbegin("ioctl numbers and struct sizes"); js("HYPERCALL", "0x%lx", (long)IOCTL_PRIVCMD_HYPERCALL); js("MMAP", "0x%lx", (long)IOCTL_PRIVCMD_MMAP); js("MMAPBATCH", "0x%lx", (long)IOCTL_PRIVCMD_MMAPBATCH); js("MMAPBATCH_V2", "0x%lx", (long)IOCTL_PRIVCMD_MMAPBATCH_V2); js("DM_OP", "0x%lx", (long)IOCTL_PRIVCMD_DM_OP); js("RESTRICT", "0x%lx", (long)IOCTL_PRIVCMD_RESTRICT); js("MMAP_RESOURCE", "0x%lx", (long)IOCTL_PRIVCMD_MMAP_RESOURCE); ji("sizeof_mmap", sizeof(privcmd_mmap_t)); ji("sizeof_mmap_entry", sizeof(privcmd_mmap_entry_t)); ji("sizeof_mmapbatch", sizeof(privcmd_mmapbatch_t)); ji("sizeof_mmapbatch_v2", sizeof(privcmd_mmapbatch_v2_t)); ji("sizeof_mmap_resource", sizeof(privcmd_mmap_resource_t)); ji("sizeof_domid", sizeof(domid_t)); jend();
    privcmd_hypercall_t h = { .op = 17 }; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, &h); jbegin("hypercall xen_version(0)"); js("ret_hex", "0x%x", r); jret(r, errno); jend(); h.op = 60; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, &h); jbegin("hypercall op 60 (none)"); jret(r, errno); jend(); h.op = 17; h.arg[0] = 99; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, &h); jbegin("hypercall xen_version(99)"); jret(r, errno); jend(); errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, NULL); jbegin("hypercall NULL"); jret(r, errno); jend();
    privcmd_dm_op_buf_t bf[20]; memset(bf, 0, sizeof bf); privcmd_dm_op_t d = { .dom = A.id, .num = 17, .ubufs = bf }; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_DM_OP, &d); jbegin("DM_OP 17 buffers"); jret(r, errno); jend(); d.num = 1; bf[0].size = 4097; bf[0].uptr = bf; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_DM_OP, &d); jbegin("DM_OP buffer of 4097"); jret(r, errno); jend(); bf[0].size = 8; bf[0].uptr = (void *)16; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_DM_OP, &d); jbegin("DM_OP bad pointer"); jret(r, errno); jend(); char z[64] = { 0 }; bf[0].uptr = z; bf[0].size = 64; z[0] = 99; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_DM_OP, &d); jbegin("DM_OP unknown op 99"); jret(r, errno); jend(); d.dom = 999; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_DM_OP, &d); jbegin("DM_OP domid 999"); jret(r, errno); jend(); d.ubufs = NULL; d.dom = A.id; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_DM_OP, &d); jbegin("DM_OP ubufs NULL"); jret(r, errno); jend();
}
/* ----------------------------------------------------------- libxenfm --- */
static void c_lib(void)
{
    xenforeignmemory_handle *fm = xenforeignmemory_open(0, 0); if (!fm) { jbegin("open"); js("errno", "%s", en(errno)); jend(); return; } xen_pfn_t b = BAD(), a[4], *s = seq(8); int err[8]; void *p;
#define MAP(step, dom, prot, n, arr, er) do { for (int i = 0; i < 8; i++) err[i] = SENT; errno = 0; p = xenforeignmemory_map(fm, dom, prot, n, arr, er); int e_ = errno; jbegin(step); js("call", "map"); ji("domid", dom); ji("pages", n); js("result", "%s", p ? "pointer" : "NULL"); js("errno", "%s", en(e_)); jerrs("err", err, (n) > 8 ? 8 : (n)); if (p) jpages("view", p, (n) > 4 ? 4 : (n)); jend(); if (p) xenforeignmemory_unmap(fm, p, n); } while (0)
    MAP("good, err NULL", A.id, RW, 4, s, NULL); MAP("good, err given", A.id, RW, 4, s, err); memcpy(a, s, 32); a[2] = b; MAP("one bad, err NULL", A.id, RW, 4, a, NULL); MAP("one bad, err given", A.id, RW, 4, a, err); a[0] = a[1] = a[3] = b; MAP("all bad, err NULL", A.id, RW, 4, a, NULL); MAP("all bad, err given", A.id, RW, 4, a, err); MAP("domid 999, err NULL", 999, RW, 4, s, NULL); MAP("domid 999, err given", 999, RW, 4, s, err); MAP("domid 0x1000A (wider than 16 bits)", 0x10000 | A.id, RW, 4, s, err); MAP("domid SELF", 0x7ff0, RW, 4, s, err); MAP("domid XEN", 0x7ff2, RW, 4, s, err); MAP("0 pages, err given", A.id, RW, 0, s, err); MAP("0 pages, err NULL", A.id, RW, 0, s, NULL); MAP("arr NULL", A.id, RW, 4, NULL, err); MAP("prot READ", A.id, PROT_READ, 4, s, err); MAP("prot NONE", A.id, PROT_NONE, 4, s, err);
    { xen_pfn_t m[4] = { G(0), 1ULL << 40, G(1), ~0ULL }; MAP("g0, 2^40, g1, ~0: err given", A.id, RW, 4, m, err); MAP("g0, 2^40, g1, ~0: err NULL", A.id, RW, 4, m, NULL); }
    errno = 0; p = xenforeignmemory_map(fm, A.id, RW, 1UL << 50, s, err); jbegin("2^50 pages"); js("result", "%s", p ? "pointer" : "NULL"); js("errno", "%s", en(errno)); jend(); errno = 0; p = xenforeignmemory_map(fm, A.id, RW, 1UL << 32, s, err); jbegin("2^32 pages (num truncates to 0 in the ioctl)"); js("result", "%s", p ? "pointer" : "NULL"); js("errno", "%s", en(errno)); jend(); if (p) munmap(p, 1UL << 44); 
    void *hint = mmap(0, 4 * PG, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); munmap(hint, 4 * PG); errno = 0; p = xenforeignmemory_map2(fm, A.id, hint, RW, 0, 4, s, err); jbegin("map2 with a hint address"); js("result", "%s", p ? p == hint ? "at the hint" : "elsewhere" : "NULL"); if (p) jpages("view", p, 4); jend(); if (p) munmap(p, 4 * PG); hint = mmap(0, 4 * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); errno = 0; p = xenforeignmemory_map2(fm, A.id, hint, RW, MAP_FIXED, 4, s, err); jbegin("map2 MAP_FIXED over anonymous memory"); js("result", "%s", p ? p == hint ? "at the hint" : "elsewhere" : "NULL"); js("errno", "%s", p ? "0" : en(errno)); if (p) jpages("view", p, 4); jend();
    a[0] = G(0); a[1] = b; hint = mmap(0, 2 * PG, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); *(char *)hint = 1; errno = 0; p = xenforeignmemory_map2(fm, A.id, hint, RW, MAP_FIXED, 2, a, NULL); jbegin("map2 MAP_FIXED over anonymous memory, one bad, err NULL"); js("result", "%s", p ? "pointer" : "NULL"); js("errno", "%s", en(errno)); jpages("the address then", hint, 2); jend();
    p = xenforeignmemory_map2(fm, A.id, NULL, RW, MAP_PRIVATE, 2, s, err); jbegin("map2 flags MAP_PRIVATE (ORed with MAP_SHARED)"); js("result", "%s", p ? "pointer" : "NULL"); js("errno", "%s", p ? "0" : en(errno)); if (p) { jpages("view", p, 2); jwrites("writes", p, 1, 0); } jend();
    errno = 0; int r = xenforeignmemory_unmap(fm, (void *)0x1000, 1); jbegin("unmap of nothing mapped"); jret(r, errno); jend(); errno = 0; r = xenforeignmemory_unmap(fm, (void *)0x1001, 1); jbegin("unmap unaligned"); jret(r, errno); jend(); errno = 0; r = xenforeignmemory_unmap(fm, (void *)0x1000, 0); jbegin("unmap 0 pages"); jret(r, errno); jend();
    size_t sz = 0; errno = 0; r = xenforeignmemory_resource_size(fm, A.id, 1, 0, &sz); jbegin("resource_size grant"); jret(r, errno); ji("size", sz); jend(); errno = 0; sz = 0; r = xenforeignmemory_resource_size(fm, A.id, 9, 0, &sz); jbegin("resource_size type 9"); jret(r, errno); ji("size", sz); jend(); errno = 0; sz = 0; r = xenforeignmemory_resource_size(fm, 999, 1, 0, &sz); jbegin("resource_size domid 999"); jret(r, errno); ji("size", sz); jend();
    struct { const char *s; int dom; unsigned t, id; unsigned long f, n; int fl; } q[] = { { "map_resource grant 0..3", (int)A.id, 1, 0, 0, 4, 0 }, { "idx 4 num 1", (int)A.id, 1, 0, 4, 1, 0 }, { "type 9", (int)A.id, 9, 0, 0, 1, 0 }, { "domid 999", 999, 1, 0, 0, 1, 0 }, { "nr_frames 0", (int)A.id, 1, 0, 0, 0, 0 }, { "flags MAP_FIXED", (int)A.id, 1, 0, 0, 1, MAP_FIXED }, { "flags MAP_PRIVATE", (int)A.id, 1, 0, 0, 1, MAP_PRIVATE } };
    for (unsigned i = 0; i < sizeof q / sizeof *q; i++) { p = NULL; errno = 0; xenforeignmemory_resource_handle *h = xenforeignmemory_map_resource(fm, q[i].dom, q[i].t, q[i].id, q[i].f, q[i].n, &p, RW, q[i].fl); int e = errno; jbegin(q[i].s); js("call", "map_resource"); js("result", "%s", h ? "handle" : "NULL"); js("errno", "%s", h ? "0" : en(e)); js("addr", "%s", p ? "set" : "NULL"); if (h && p) jpages("view", p, 1); jend(); if (h) { errno = 0; r = xenforeignmemory_unmap_resource(fm, h); jbegin("unmap_resource"); jret(r, errno); jend(); } }
    errno = 0; r = xenforeignmemory_unmap_resource(fm, NULL); jbegin("unmap_resource NULL"); jret(r, errno); jend();
    errno = 0; r = xenforeignmemory_restrict(fm, A.id); jbegin("restrict A"); jret(r, errno); jend(); errno = 0; r = xenforeignmemory_restrict(fm, B.id); jbegin("restrict B"); jret(r, errno); jend(); MAP("after restrict: A", A.id, RW, 2, s, err); MAP("after restrict: B", B.id, RW, 2, s, err); MAP("after restrict: B err NULL", B.id, RW, 2, s, NULL); p = xenforeignmemory_map(fm, A.id, RW, 2, s, err); r = xenforeignmemory_close(fm); jbegin("close with a live mapping"); jret(r, errno); if (p) jpages("view", p, 2); jend(); r = xenforeignmemory_close(NULL); jbegin("close NULL"); jret(r, errno); jend();
}

static void c_life_res(void) /* a resource stays mapped while the domain is destroyed */
{
    struct dom D; if (mkdom(&D, ttype, 'D')) return; int fd = opn(), r; void *p = vmaRW(fd, 4), *q; RS("grant table of D, 4 frames", fd, D.id, 1, 0, 0, 4, p, 4); wr(p, 0x77);
    if (ttype != T_PV) { xendevicemodel_handle *dm = xendevicemodel_open(0, 0); ioservid_t id = 0; r = xendevicemodel_create_ioreq_server(dm, D.id, HVM_IOREQSRV_BUFIOREQ_ATOMIC, &id); q = vmaRW(fd, 2); RS("ioreq pages of D", fd, D.id, 0, id, 0, 2, q, 2); wr(q, 0x88); }
    r = xc_domain_destroy(xch, D.id); jbegin("destroy with only resource pages mapped"); jret(r, errno); jdominfo("D", D.id); jpages("grant", p, 4); if (ttype != T_PV) { jpages("ioreq", q, 2); } jend(); jbegin("write"); jwrites("grant", p, 1, 0x78); if (ttype != T_PV) jwrites("ioreq", q, 1, 0x89); jend();
    munmap(p, 4 * PG); jbegin("after munmap of the grant frames"); jdominfo("D", D.id); jend(); if (ttype != T_PV) { munmap(q, 2 * PG); jbegin("after munmap of the ioreq pages"); jdominfo("D", D.id); jend(); } usleep(300000); jbegin("0.3 s later"); jdominfo("D", D.id); jend();
}
static int mmuext(unsigned cmd, xen_pfn_t mfn, int dom)
{ xencall_handle *x = xencall_open(0, 0); struct mmuext_op *op = xencall_alloc_buffer(x, sizeof *op); memset(op, 0, sizeof *op); op->cmd = cmd; op->arg1.mfn = mfn; int r = xencall4(x, __HYPERVISOR_mmuext_op, (unsigned long)op, 1, 0, dom), e = errno; xencall_free_buffer(x, op); xencall_close(x); errno = e; return r; }
static void c_pod(void) /* populate on demand */
{
    struct dom D; if (mkdom(&D, ttype, 'D')) return; int fd = opn(), r; xen_pfn_t g[16]; for (int i = 0; i < 16; i++) g[i] = 0x1000 + i; errno = 0; r = xc_domain_populate_physmap_exact(xch, D.id, 16, 0, XENMEMF_populate_on_demand, g); jbegin("populate 16 gfns on demand"); jret(r, errno); jdominfo("D", D.id); jend(); uint64_t t, cch, en_; errno = 0; r = xc_domain_set_pod_target(xch, D.id, NFR + 8, &t, &cch, &en_); jbegin("set pod target: 8 pages in the cache"); jret(r, errno); ji("tot", t); ji("cache", cch); ji("entries", en_); jend();
    void *p = vma(fd, 4, PROT_READ, MAP_SHARED); V2("V2 RO of 4 PoD gfns", fd, p, 4, D.id, g, 4, p, 4); xc_domain_get_pod_target(xch, D.id, &t, &cch, &en_); jbegin("pod after"); ji("tot", t); ji("cache", cch); ji("entries", en_); jend(); void *q = vmaRW(fd, 12); V2("V2 RW of 12 more PoD gfns (4 in the cache)", fd, q, 12, D.id, g + 4, 12, q, 12); jbegin("domain then"); jdominfo("D", D.id); jend(); munmap(p, 4 * PG); munmap(q, 12 * PG); xc_domain_destroy(xch, D.id); jbegin("end"); jdominfo("D", D.id); jend();
}
static volatile int sigs; static double sigt; static double now(void);
static void onalrm(int s) { sigs++; sigt = now(); }
static void c_signal(void) /* a signal that arrives during a long V2 */
{
    int fd = opn(); unsigned n = d0pvh ? 16384 : 524288; xen_pfn_t *a = malloc(n * 8L); int *err = malloc(n * 4L); memset(err, 1, n * 4L); for (unsigned i = 0; i < n; i++) a[i] = G(i % NFR); void *p = vmaRW(fd, n); struct sigaction sa = { .sa_handler = onalrm }; sigaction(SIGALRM, &sa, 0); struct itimerval it = { { 0, 0 }, { 0, d0pvh ? 20000 : 200000 } }; setitimer(ITIMER_REAL, &it, 0); double t0 = now(); errno = 0; int r = v2(fd, p, n, A.id, a, err), e = errno; double t = now() - t0; unsigned bad = 0; for (unsigned i = 0; i < n; i++) bad += !!err[i]; jbegin("SIGALRM (no SA_RESTART) during a V2"); ji("frames", n); jret(r, e); ji("frames_with_error", bad); ji("signals", sigs); ji("call_ms", t / 1e6); ji("timer_ms", d0pvh ? 20 : 200); ji("handler_ran_at_ms", (sigt - t0) / 1e6); jend();
}
static void c_priv(void) /* without root */
{
    int fd = opn(), r; xen_pfn_t *a = seq(2); void *p = vmaRW(fd, 2); V2("root maps", fd, p, 2, A.id, a, 2, p, 2); if (setgid(65534) || setuid(65534)) { jbegin("setuid failed"); jend(); return; } errno = 0; r = open(DEV, O_RDWR); jbegin("open as uid 65534 (node mode 0600)"); jret(r, errno); jend(); jbegin("old mapping"); jpages("pages", p, 2); jend(); errno = 0; void *q = mmap(0, 2 * PG, RW, MAP_SHARED, fd, 0); jbegin("mmap of the inherited fd"); js("errno", "%s", q == MAP_FAILED ? en(errno) : "0"); jend(); if (q != MAP_FAILED) V2("V2 on the inherited fd as uid 65534", fd, q, 2, A.id, a, 2, q, 2); privcmd_hypercall_t h = { .op = 17 }; errno = 0; r = ioctl(fd, IOCTL_PRIVCMD_HYPERCALL, &h); jbegin("hypercall on the inherited fd as uid 65534"); jret(r, errno); jend();
}
static void c_compat(void) /* the i386 entry: is there a compat ioctl? */
{
    int fd = opn(); char *lo = mmap((void *)0x20000000, PG, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0); unsigned cmds[] = { IOCTL_PRIVCMD_MMAPBATCH_V2, IOCTL_PRIVCMD_MMAPBATCH, IOCTL_PRIVCMD_RESTRICT, 0x5000 }; for (int i = 0; i < 4; i++) { int r; __asm__ volatile("int $0x80" : "=a"(r) : "0"(54), "b"(fd), "c"(cmds[i]), "d"((int)(long)lo) : "memory", "r8", "r9", "r10", "r11"); char s[64]; snprintf(s, 64, "int 0x80 ioctl 0x%x", cmds[i]); jbegin(s); ji("raw", r); js("errno", "%s", r < 0 && r > -4096 ? en(-r) : "0"); jend(); }
}
static int page_out(uint32_t id, uint64_t g) { if (xc_mem_paging_nominate(xch, id, g)) return -1; return xc_mem_paging_evict(xch, id, g); }
static void *loader(void *x) { uint64_t *v = x; usleep(v[2]); char *b; if (posix_memalign((void **)&b, PG, PG)) return 0; fillpat((uint64_t *)b, 'P', v[1]); v[3] = xc_mem_paging_load(xch, v[0], v[1], b); return 0; }
static void c_paging(void) /* needs a hypervisor built with CONFIG_MEM_PAGING */
{
    struct dom D; if (mkdom(&D, ttype, 'D')) return; int fd = opn(), r; xen_pfn_t rg = 0x300; r = xc_domain_populate_physmap_exact(xch, D.id, 1, 0, 0, &rg); rg = 0x300; void *ring = vmaRW(fd, 1); int er; v2(fd, ring, 1, D.id, &rg, &er); vm_event_sring_t *sr = ring; SHARED_RING_INIT(sr); r = xc_hvm_param_set(xch, D.id, HVM_PARAM_PAGING_RING_PFN, 0x300); uint32_t port = 0; errno = 0; r = xc_mem_paging_enable(xch, D.id, &port); jbegin("mem_paging enable"); jret(r, errno); ji("ring_err", er); jend(); if (r) { xc_domain_destroy(xch, D.id); return; }
    void *p = vmaRW(fd, 1), *q; xen_pfn_t g50 = 50; V2("map g50", fd, p, 1, D.id, &g50, 1, p, 1); errno = 0; r = xc_mem_paging_nominate(xch, D.id, 50); jbegin("nominate g50 while mapped"); jret(r, errno); jend(); munmap(p, PG); errno = 0; r = xc_mem_paging_nominate(xch, D.id, 50); jbegin("nominate g50 after munmap"); jret(r, errno); jend(); q = vmaRW(fd, 1); V2("map g50, nominated but not evicted", fd, q, 1, D.id, &g50, 1, q, 1); munmap(q, PG); errno = 0; r = xc_mem_paging_evict(xch, D.id, 50); jbegin("evict g50 after that map"); jret(r, errno); jend();
    int bad = 0; for (int g = 60; g < 100; g++) bad += !!page_out(D.id, g); jbegin("page out g60..g99"); ji("failures", bad); jdominfo("D", D.id); jend(); xen_pfn_t X = BAD();
#define PG2(step, ...) do { xen_pfn_t a[] = { __VA_ARGS__ }; int n = sizeof a / 8; p = vmaRW(fd, n); V2(step, fd, p, n, D.id, a, n, p, n); munmap(p, n * PG); } while (0)
    PG2("V2 single paged", 60); PG2("V2 the same again (now paging in)", 60); PG2("V2 good, paged, good", 1, 61, 2); PG2("V2 paged, good, good", 62, 1, 2); PG2("V2 good, good, paged (last)", 1, 2, 63); PG2("V2 all paged", 64, 65, 66); PG2("V2 bad, paged (last)", X, 67); PG2("V2 paged, bad (last)", 68, X); { xen_pfn_t *a = seq(20); a[3] = 69; p = vmaRW(fd, 20); V2("V2 20 frames, paged at 3 (first sub-batch of 16)", fd, p, 20, D.id, a, 20, p, 20); munmap(p, 20 * PG); a = seq(20); a[15] = 70; p = vmaRW(fd, 20); V2("V2 20 frames, paged at 15 (last of the first sub-batch)", fd, p, 20, D.id, a, 20, p, 20); munmap(p, 20 * PG); a = seq(20); a[19] = 71; p = vmaRW(fd, 20); V2("V2 20 frames, paged at 19 (last of all)", fd, p, 20, D.id, a, 20, p, 20); munmap(p, 20 * PG); a = seq(600); for (int i = 0; i < 600; i++) a[i] = i % 40; a[511] = 72; p = vmaRW(fd, 600); V2("V2 600 frames, paged at 511 (last of the first page of 512)", fd, p, 600, D.id, a, 600, 0, 0); munmap(p, 600 * PG); }
    { xen_pfn_t a[] = { 1, 73, 2 }; p = vmaRW(fd, 3); V1("V1 good, paged, good", fd, p, 3, D.id, a, 3, p, 3); munmap(p, 3 * PG); xen_pfn_t b[] = { 1, X, 74 }; p = vmaRW(fd, 3); V1("V1 good, bad, paged (last)", fd, p, 3, D.id, b, 3, p, 3); munmap(p, 3 * PG); p = vmaRW(fd, 3); privcmd_mmap_entry_t e[] = { E(p, 1, 1), E(p + PG, 75, 1), E(p + 2 * PG, 2, 1) }; MM("MMAP good, paged, good", fd, 3, D.id, e, 3, p, p, 3); munmap(p, 3 * PG); }
    { xen_pfn_t a[] = { 1, 2, 76 }; p = vmaRW(fd, 3); V2("hole of a paged frame", fd, p, 3, D.id, a, 3, p, 3); V2("retry before it is paged in", fd, p + 2 * PG, 1, D.id, a + 2, 1, p, 3); uint64_t v[4] = { D.id, 76, 0, 9 }; loader(v); jbegin("page g76 in (load)"); ji("load", v[3]); jend(); V2("retry after it is paged in", fd, p + 2 * PG, 1, D.id, a + 2, 1, p, 3); munmap(p, 3 * PG); }
    { pthread_t t; uint64_t v[4] = { D.id, 77, 700000, 9 }; xenforeignmemory_handle *fm = xenforeignmemory_open(0, 0); xen_pfn_t a[] = { 1, 2, 77 }; int err[3] = { SENT, SENT, SENT }; pthread_create(&t, 0, loader, v); double t0 = now(); errno = 0; p = xenforeignmemory_map(fm, D.id, RW, 3, a, err); int e = errno; double dt = now() - t0; pthread_join(t, 0); jbegin("lib map [g1 g2 g77(paged, last)], a pager loads g77 after 700 ms"); js("result", "%s", p ? "pointer" : "NULL"); js("errno", "%s", en(e)); jerrs("err", err, 3); ji("took_ms", dt / 1e6); if (p) jpages("view", p, 3); jend();
      uint64_t v2_[4] = { D.id, 78, 700000, 9 }; xen_pfn_t b[] = { 1, 78, 2 }; err[0] = err[1] = err[2] = SENT; pthread_create(&t, 0, loader, v2_); t0 = now(); errno = 0; p = xenforeignmemory_map(fm, D.id, RW, 3, b, err); e = errno; dt = now() - t0; pthread_join(t, 0); jbegin("lib map [g1 g78(paged) g2], a pager loads g78 after 700 ms"); js("result", "%s", p ? "pointer" : "NULL"); js("errno", "%s", en(e)); jerrs("err", err, 3); ji("took_ms", dt / 1e6); if (p) jpages("view", p, 3); jend();
      xen_pfn_t b2[] = { 1, 79, 2 }; errno = 0; p = xenforeignmemory_map(fm, D.id, RW, 3, b2, NULL); e = errno; jbegin("lib map [g1 g79(paged) g2], err NULL"); js("result", "%s", p ? "pointer" : "NULL"); js("errno", "%s", en(e)); jend(); }
    jbegin("info"); jdominfo("D", D.id); ji("ring_requests", sr->req_prod); jend(); xc_mem_paging_disable(xch, D.id); xc_domain_destroy(xch, D.id); munmap(ring, PG); jbegin("end"); jdominfo("D", D.id); jend();
}
/* which error wins when two things are wrong at once */
#define X_PV (1 << T_PV)
#define X_XL (1 << T_HVM | 1 << T_SHADOW | 1 << T_PVH)
static struct tcase tcases[] = {
    { "v2.good", c_v2_good }, { "v2.bad", c_v2_bad }, { "v2.gfnval", c_v2_gfnval }, { "v2.num", c_v2_num }, { "v2.addr", c_v2_addr }, { "v2.ptr", c_v2_ptr }, { "v2.dom", c_v2_dom }, { "v2.prot", c_v2_prot }, { "v2.same", c_same }, { "v2.signal", c_signal }, { "priv", c_priv }, { "compat", c_compat }, { "v2.touch", c_touch }, { "v1", c_v1 }, { "mmap", c_mmap },
    { "vma.unmap", c_unmap }, { "vma.fork", c_fork }, { "vma.close", c_close }, { "restrict", c_restrict }, { "resource", c_res }, { "ioctls", c_ioctls }, { "lib", c_lib },
    { "life.none", c_life_none }, { "life.destroy", c_life_destroy }, { "life.balloon", c_life_balloon }, { "life.res", c_life_res }, { "life.pod", c_pod, 0, 0, X_XL }, { "paging", c_paging, 60, 0, X_XL }, { "self", c_self, 120 }, { "time", c_time, 200 }, { "big", c_big, 250 }, { "manyvma", c_manyvma, 200 },
    { "vma.mremap_size", c_mremap_size }, { "vma.madvise", c_madvise }, { "vma.mprotect_prefork", c_mprot4 }, { "vma.mprotect_rw_ro", c_mprot5 }, { "vma.mprotect_ro_rw", c_mprot2 }, { "vma.mremap_move", c_mremap_move }, { "zz.mmap_anon", c_mmap_anon }, { 0 } };
