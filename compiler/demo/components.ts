/** How many pixels has each connected piece of a picture? */

/**
 * Sizes of the pieces that touch by a side or a corner, in the order in which reading the picture meets them.
 * @param marked [height, width], 0 where there is nothing
 */
export function componentSizes(marked: Uint8Array, height: number, width: number): number[] {
  const unseen = marked.map((value) => (value === 0 ? 0 : 1));
  const sizes: number[] = [];
  for (let start = 0; start < unseen.length; start++) {
    if (unseen[start] === 0) continue;
    const pending = [start];
    unseen[start] = 0;
    let size = 0;
    for (let at = pending.pop(); at !== undefined; at = pending.pop()) {
      size++;
      const [x, y] = [at % width, Math.floor(at / width)];
      for (let nextY = Math.max(0, y - 1); nextY <= Math.min(height - 1, y + 1); nextY++) {
        for (let nextX = Math.max(0, x - 1); nextX <= Math.min(width - 1, x + 1); nextX++) {
          const next = nextY * width + nextX;
          if (unseen[next] === 0) continue;
          unseen[next] = 0;
          pending.push(next);
        }
      }
    }
    sizes.push(size);
  }
  return sizes;
}
