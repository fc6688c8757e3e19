/**
 * The parts of v86's objects that this folder uses. They are untyped in v86 and may change with its
 * version, which is therefore pinned.
 */
import type { V86Ide } from './ide.js';
import type { V86Ne2k } from './network-card.js';
import type { V86Vga } from './screen.js';
import type { V86Uart } from './serial.js';

/** The parts of v86's processor object that are used here. */
export interface V86Cpu {
  readonly io: {
    mmap_register(
      address: number,
      size: number,
      ...handlers: ((address: number, value: number) => number | void)[]
    ): void;
    port_write8(port: number, value: number): void;
  };
  readonly devices: {
    readonly pci: V86Pci;
    readonly net?: V86Ne2k;
    readonly vga: V86Vga;
    readonly ide?: V86Ide;
    readonly uart0: V86Uart;
  };
  /** Files that the firmware reads through QEMU's fw_cfg interface. */
  readonly option_roms: { readonly name: string; readonly data: Uint8Array }[];
  readonly wasm_memory: WebAssembly.Memory;
  readonly mem8: Uint8Array;
  readonly reg32: Int32Array;
  readonly sreg: Uint16Array;
  readonly segment_offsets: Int32Array;
  readonly segment_limits: Uint32Array;
  readonly segment_is_null: Uint8Array;
  readonly cr: Int32Array;
  readonly flags: Int32Array;
  readonly is_32: Int32Array;
  readonly stack_size_32: Int32Array;
  readonly protected_mode: Int32Array;
  readonly instruction_pointer: Int32Array;
  readonly idtr_offset: Int32Array;
  readonly idtr_size: Int32Array;
  update_state_flags(): void;
  jit_dirty_cache(start: number, end: number): void;
  device_raise_irq(irq: number): void;
  device_lower_irq(irq: number): void;
  reboot_internal(): void;
  /** Address of each interrupt controller's state in `wasm_memory`. */
  get_pic_addr_master(): number;
  get_pic_addr_slave(): number;
}

export interface V86Pci {
  readonly device_spaces: (Int32Array | undefined)[];
  readonly isa_bridge_space8: Uint8Array;
  register_device(device: object): void;
  raise_irq(id: number): void;
  lower_irq(id: number): void;
}

export interface V86Inner {
  readonly cpu: V86Cpu;
  /** Runs the processor for a while and schedules the next run. */
  do_tick(): void;
  next_tick(ms: number): void;
  /** Calls {@link yield_callback} with `tick` in a later round of the event loop, after `ms`. */
  yield(ms: number, tick: number): void;
  /** Runs the processor, unless a newer tick was scheduled. */
  yield_callback(tick: number): void;
}
