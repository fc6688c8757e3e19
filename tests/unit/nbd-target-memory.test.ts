import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Arena, SlabPool, type Piece } from '../../src/protocol/nbd/target/memory.js';

describe('memory of the NBD target', () => {
  it('never gives the same bytes to two users, and counts bytes in use', () => {
    const step = fc.oneof(
      fc.record({
        take: fc.oneof(fc.integer({ min: 1, max: 100_000 }), fc.constantFrom(16, 4124, 65_536, 65_537, 1 << 20)),
      }),
      fc.record({ release: fc.nat() }),
      fc.record({ abandon: fc.nat() }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
        const pool = new SlabPool(1 << 20);
        const arenas = [new Arena(pool), new Arena(pool)];
        const held: { piece: Piece; arena: Arena; mark: number }[] = [];
        const abandoned: { piece: Piece; mark: number }[] = [];
        let mark = 0;
        const intact = ({ piece, mark }: { piece: Piece; mark: number }) => {
          const bytes = piece.slab.bytes.subarray(piece.start, piece.end);
          return bytes[0] === mark && bytes.at(-1) === mark;
        };
        for (const one of steps) {
          if ('take' in one) {
            const arena = arenas[mark % 2]!;
            const piece = arena.take(one.take);
            expect(piece.end - piece.start).toBe(one.take);
            mark = (mark + 1) % 256;
            piece.slab.bytes.fill(mark, piece.start, piece.end);
            held.push({ piece, arena, mark });
          } else if (held.length > 0) {
            const index = ('release' in one ? one.release : one.abandon) % held.length;
            const [chosen] = held.splice(index, 1);
            if ('release' in one) {
              chosen!.arena.release(chosen!.piece);
            } else {
              chosen!.arena.abandon(chosen!.piece);
              // The memory may still be read: it must not be reused.
              abandoned.push(chosen!);
            }
          }
          expect(held.every(intact)).toBe(true);
          expect(abandoned.every(intact)).toBe(true);
        }
        const inUse = held.reduce((sum, { piece }) => sum + piece.end - piece.start, 0);
        expect(arenas[0]!.inUse + arenas[1]!.inUse).toBe(inUse);
      }),
    );
  });

  it('uses a slab again when all of it has been released', () => {
    const arena = new Arena(new SlabPool());
    const first = arena.take(1 << 20);
    arena.release(first);
    expect(arena.take(1 << 20).slab).toBe(first.slab);
    const [a, b] = [arena.take(100), arena.take(100)];
    expect(b.slab).toBe(a.slab);
    expect(b.start).toBe(a.end);
    arena.release(a);
    arena.release(b);
    expect(arena.take(50)).toMatchObject({ slab: a.slab, start: 0 });
  });

  it('keeps no more than its limit', () => {
    const pool = new SlabPool(3 << 20);
    const slabs = Array.from({ length: 10 }, () => pool.take(1 << 20));
    for (const slab of slabs) pool.give(slab);
    const again = new Set(Array.from({ length: 10 }, () => pool.take(1 << 20)));
    expect(slabs.filter((slab) => again.has(slab))).toHaveLength(2);
  });
});
