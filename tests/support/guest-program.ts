/**
 * Programs for the i386 guest that its busybox lacks. They are built here as ELF files, without a
 * compiler.
 */

/** Requests of ioctl(2), from linux/cdrom.h and scsi/scsi_ioctl.h. */
export const Ioctl = { eject: 0x5309, unlockDoor: 0x5381 } as const;

/**
 * `PROGRAM FILE`: opens FILE and calls ioctl(2) with each of `requests` and argument 0. The exit
 * status is the errno of the last call.
 */
export function ioctlProgram(...requests: readonly number[]): Uint8Array {
  const word = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];
  const code = [
    ...[0x58, 0x58, 0x5b], // pop eax (argc); pop eax (argv[0]); pop ebx (argv[1])
    ...[0xb9, ...word(0x800)], // mov ecx, O_NONBLOCK
    ...[0x31, 0xd2], // xor edx, edx
    ...[0xb8, ...word(5)], // mov eax, open
    ...[0xcd, 0x80],
    ...[0x85, 0xc0], // test eax, eax
    ...[0x78, 2 + 14 * requests.length], // js end
    ...[0x89, 0xc3], // mov ebx, eax
    ...requests.flatMap((request) => [
      ...[0xb9, ...word(request)], // mov ecx, request
      ...[0x31, 0xd2], // xor edx, edx
      ...[0xb8, ...word(54)], // mov eax, ioctl
      ...[0xcd, 0x80],
    ]),
    ...[0xf7, 0xd8], // end: neg eax
    ...[0x89, 0xc3], // mov ebx, eax
    ...[0xb8, ...word(1)], // mov eax, exit
    ...[0xcd, 0x80],
  ];
  const base = 0x08048000;
  const headers = 52 + 32;
  const file = new Uint8Array(headers + code.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]); // ELF, 32 bits, little-endian
  const half: [number, number][] = [
    [16, 2], // executable
    [18, 3], // i386
    [40, 52], // sizes of this header and of a program header, and how many of those
    [42, 32],
    [44, 1],
  ];
  for (const [at, value] of half) view.setUint16(at, value, true);
  const full: [number, number][] = [
    [20, 1],
    [24, base + headers], // entry
    [28, 52], // program headers
    [52, 1], // to be loaded
    [56, 0],
    [60, base],
    [64, base],
    [68, file.length],
    [72, file.length],
    [76, 5], // read, execute
    [80, 0x1000],
  ];
  for (const [at, value] of full) view.setUint32(at, value, true);
  file.set(code, headers);
  return file;
}
