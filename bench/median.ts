/** The middle one, of an even number the upper of the two in the middle; `values` stay as they are. */
export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1]!;
