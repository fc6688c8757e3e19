/*
 * The guest of bench/kvm-guest.mjs: a driver for one NVMe disk and nothing else, in flat 32-bit
 * protected mode without paging, so that every KVM runs it at speed. It drives the controller as
 * Linux does: shadow doorbells where there are any, MSI-X, and HLT while it waits.
 *
 * It takes commands from the serial port, a line each: "read BYTES DEPTH COUNT" reads COUNT times
 * BYTES, DEPTH at once, and answers "done TICKS BAD": ticks of the time-stamp counter, and the
 * number of commands that failed, in hexadecimal. Reads of one page are at random places, longer
 * ones in order, into pages that are not adjacent.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define REGISTERS 0xe0000000u
#define APIC 0xfee00000u
/* Places in memory. */
#define ADMIN_COMMANDS 0x200000u
#define ADMIN_COMPLETIONS 0x201000u
#define COMMANDS 0x202000u
#define COMPLETIONS 0x206000u
#define SHADOW 0x20a000u
#define EVENTS 0x20b000u
#define IDENTITY 0x20c000u
#define LISTS 0x210000u
#define VECTORS 0x300000u
#define DATA 0x1000000u
#define DATA_SIZE 0x200000u

#define ADMIN_ENTRIES 16
#define ENTRIES 64
#define MOST_IN_FLIGHT 32
/* Entries of a list of pages are this far apart in memory, in pages. Odd, so that all differ. */
#define STRIDE 3

void on_interrupt(void);

static void out8(u16 port, u8 value) { asm volatile("outb %0, %1" : : "a"(value), "Nd"(port)); }
static u8 in8(u16 port) {
  u8 value;
  asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static void out32(u16 port, u32 value) { asm volatile("outl %0, %1" : : "a"(value), "Nd"(port)); }
static u32 in32(u16 port) {
  u32 value;
  asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
  return value;
}
static volatile u32 *at(u32 address) { return (volatile u32 *)address; }
static u64 ticks(void) {
  u32 low, high;
  asm volatile("rdtsc" : "=a"(low), "=d"(high));
  return (u64)high << 32 | low;
}
/* The processor takes no interrupt between sti and hlt, so none that has come is missed. */
static void wait(void) { asm volatile("sti; hlt; cli" : : : "memory"); }

/* The serial port. */
static void put(char byte) {
  while (!(in8(0x3fd) & 0x20)) {
  }
  out8(0x3f8, byte);
}
static void text(const char *bytes) {
  while (*bytes) put(*bytes++);
}
static void hex(u32 value) {
  for (int shift = 28; shift >= 0; shift -= 4) put("0123456789abcdef"[value >> shift & 15]);
}
/* Waits by a timer, so that a guest that has nothing to do takes no time from the others. */
static char get(void) {
  while (!(in8(0x3fd) & 1)) {
    *at(APIC + 0x3e0) = 3; /* a sixteenth of the bus's rate */
    *at(APIC + 0x320) = 0x42;
    *at(APIC + 0x380) = 125000;
    wait();
  }
  *at(APIC + 0x380) = 0;
  return in8(0x3f8);
}
static u32 number(void) {
  u32 value = 0;
  for (;;) {
    char byte = get();
    if (byte < '0' || byte > '9') return value;
    value = value * 10 + byte - '0';
  }
}

/* PCI, configuration mechanism #1. */
static u32 config(u32 slot, u32 offset) {
  out32(0xcf8, 0x80000000u | slot << 11 | offset);
  return in32(0xcfc);
}
static void set_config(u32 slot, u32 offset, u32 value) {
  out32(0xcf8, 0x80000000u | slot << 11 | offset);
  out32(0xcfc, value);
}

static u32 admin_tail, admin_head, admin_phase, tail, head, phase, shadow, blocks, random = 12345, next_block;

static void fail(const char *why) {
  text(why);
  put('\n');
  for (;;) wait();
}

static void admin(u8 opcode, u32 namespace, u32 prp1, u32 prp2, u32 dword10, u32 dword11) {
  volatile u32 *command = at(ADMIN_COMMANDS + 64 * admin_tail);
  for (int i = 0; i < 16; i++) command[i] = 0;
  command[0] = opcode | 7 << 16;
  command[1] = namespace;
  command[6] = prp1;
  command[8] = prp2;
  command[10] = dword10;
  command[11] = dword11;
  admin_tail = (admin_tail + 1) % ADMIN_ENTRIES;
  *at(REGISTERS + 0x1000) = admin_tail;
  volatile u32 *completion = at(ADMIN_COMPLETIONS + 16 * admin_head);
  while ((completion[3] >> 16 & 1) == admin_phase) {
  }
  if (completion[3] >> 17) fail("an admin command failed");
  if (++admin_head == ADMIN_ENTRIES) {
    admin_head = 0;
    admin_phase ^= 1;
  }
  *at(REGISTERS + 0x1004) = admin_head;
}

static void set_up(void) {
  u32 slot = 1;
  while (slot < 32 && config(slot, 8) >> 8 != 0x010802) slot++;
  if (slot == 32) fail("there is no NVMe controller");
  set_config(slot, 0x10, REGISTERS);
  set_config(slot, 0x14, 0);
  set_config(slot, 4, 6);
  volatile u32 *gates = at(VECTORS);
  for (u32 i = 0; i < 256; i++) {
    gates[2 * i] = 8 << 16 | ((u32)on_interrupt & 0xffff);
    gates[2 * i + 1] = ((u32)on_interrupt & 0xffff0000) | 0x8e00;
  }
  struct {
    u16 limit;
    u32 base;
  } __attribute__((packed)) table = {2047, VECTORS};
  asm volatile("lidt %0" : : "m"(table));
  out8(0x21, 0xff);
  out8(0xa1, 0xff);
  *at(APIC + 0xf0) = 0x1ff;
  u32 capability = config(slot, 0x34) & 0xff;
  while (capability && (config(slot, capability) & 0xff) != 0x11) capability = config(slot, capability) >> 8 & 0xff;
  if (!capability) fail("the controller has no MSI-X");
  u32 entry = REGISTERS + (config(slot, capability + 4) & ~7u) + 16;
  *at(entry) = APIC;
  *at(entry + 4) = 0;
  *at(entry + 8) = 0x41;
  *at(entry + 12) = 0;
  set_config(slot, capability, config(slot, capability) | 0x80000000u);

  *at(REGISTERS + 0x14) = 0;
  while (*at(REGISTERS + 0x1c) & 1) {
  }
  *at(REGISTERS + 0x24) = (ADMIN_ENTRIES - 1) << 16 | (ADMIN_ENTRIES - 1);
  *at(REGISTERS + 0x28) = ADMIN_COMMANDS;
  *at(REGISTERS + 0x2c) = 0;
  *at(REGISTERS + 0x30) = ADMIN_COMPLETIONS;
  *at(REGISTERS + 0x34) = 0;
  *at(REGISTERS + 0x14) = 1 | 6 << 16 | 4 << 20;
  while (!(*at(REGISTERS + 0x1c) & 1)) {
  }
  admin(6, 1, IDENTITY, 0, 0, 0);
  blocks = *at(IDENTITY) / 8;
  admin(6, 0, IDENTITY, 0, 1, 0);
  u32 optional = *(volatile u16 *)(IDENTITY + 256);
  admin(9, 0, 0, 0, 7, 0);
  admin(5, 0, COMPLETIONS, 0, (ENTRIES - 1) << 16 | 1, 1 << 16 | 3);
  admin(1, 0, COMMANDS, 0, (ENTRIES - 1) << 16 | 1, 1 << 16 | 1);
  if (optional & 0x100) {
    admin(0x7c, 0, SHADOW, EVENTS, 0, 0);
    shadow = 1;
  }
  for (u32 tag = 0; tag < MOST_IN_FLIGHT; tag++) {
    for (u32 i = 0; i < 512; i++) {
      volatile u32 *place = at(LISTS + 4096 * tag + 8 * i);
      place[0] = DATA + tag * DATA_SIZE + (i + 1) * STRIDE * 4096 % DATA_SIZE;
      place[1] = 0;
    }
  }
}

/* NVMe 1.4, 7.13: writes a doorbell's register only if the controller has asked for it. */
static void ring(u32 index, u32 value) {
  if (shadow) {
    volatile u32 *values = at(SHADOW), *events = at(EVENTS);
    u16 old = values[index];
    values[index] = value;
    asm volatile("lock; addl $0, (%%esp)" : : : "memory");
    u16 event = events[index];
    if (!((u16)((u16)value - event - 1) < (u16)((u16)value - old))) return;
  }
  *at(REGISTERS + 0x1000 + 4 * index) = value;
}

static void submit(u32 tag, u32 bytes) {
  u32 count = bytes / 4096, block;
  if (count == 1) {
    random = random * 1664525 + 1013904223;
    block = (random >> 8) % blocks;
  } else {
    if (next_block + count > blocks) next_block = 0;
    block = next_block;
    next_block += count;
  }
  volatile u32 *command = at(COMMANDS + 64 * tail);
  for (int i = 0; i < 16; i++) command[i] = 0;
  command[0] = 2 | tag << 16;
  command[1] = 1;
  command[6] = DATA + tag * DATA_SIZE;
  command[8] = count > 2 ? LISTS + 4096 * tag : command[6] + 4096;
  command[10] = block * 8;
  command[12] = bytes / 512 - 1;
  tail = (tail + 1) % ENTRIES;
}

static void read(u32 bytes, u32 depth, u32 count) {
  u32 issued = 0, done = 0, bad = 0;
  u64 began = ticks();
  while (issued < depth && issued < count) submit(issued++, bytes);
  u32 rung = tail;
  ring(2, rung);
  while (done < count) {
    u32 before = done;
    for (;;) {
      volatile u32 *completion = at(COMPLETIONS + 16 * head);
      if ((completion[3] >> 16 & 1) == phase) break;
      u32 tag = completion[3] & 0xffff;
      if (completion[3] >> 17) bad++;
      done++;
      if (++head == ENTRIES) {
        head = 0;
        phase ^= 1;
      }
      if (issued < count) {
        submit(tag, bytes);
        issued++;
      }
    }
    if (done == before) {
      wait();
      continue;
    }
    ring(3, head);
    if (tail != rung) ring(2, rung = tail);
  }
  u64 took = ticks() - began;
  text("done ");
  hex(took >> 32);
  hex(took);
  put(' ');
  hex(bad);
  put('\n');
}

void run(void) {
  set_up();
  text("ready\n");
  for (;;) {
    if (get() != 'd') continue;
    get();
    u32 bytes = number(), depth = number(), count = number();
    read(bytes, depth, count);
  }
}
