/** Patches: the published order, against recorded tensors, and back again. */
import fc from "fast-check";
import { expect, test } from "vitest";
import { openSafetensors } from "../../contract/safetensors.ts";
import {
  channelsFirst,
  framesToPatches,
  patchesToFrames,
  tokensOf,
  videoToPatches,
} from "../../runtime/data/patches.ts";
import { movingSquare } from "./clips.ts";

test.each(["even", "odd"])("%s sizes: the recorded patches of the recorded video", (name) => {
  const file = openSafetensors("test/fixtures/patches/patchify.safetensors");
  const [frames, channels, height, width] = file.tensors.get(`${name}.video`)!.shape as [
    number,
    number,
    number,
    number,
  ];
  const size = { frames, channels, height, width };
  const patches = videoToPatches(file.readFloat32(`${name}.video`), size, channelsFirst(size), 2);
  expect(patches).toEqual(file.readFloat32(`${name}.patches`));
  expect(tokensOf(size, 2)).toBe(file.tensors.get(`${name}.patches`)!.shape[0]);
  file.close();
});

test("frames become the patches that the same video has with channels first", () => {
  const video = movingSquare({ frames: 3, height: 13, width: 18 });
  const size = { frames: 3, channels: 3, height: 13, width: 18 };
  const first = new Float32Array(3 * 3 * 13 * 18);
  const strides = channelsFirst(size);
  for (let t = 0; t < 3; t++)
    for (let y = 0; y < 13; y++)
      for (let x = 0; x < 18; x++)
        for (let c = 0; c < 3; c++) {
          const value = video.data[((t * 13 + y) * 18 + x) * 3 + c]!;
          first[t * strides.frame + c * strides.channel + y * strides.row + x] = value / 255 - 0.5;
        }
  expect(framesToPatches(video, 4)).toEqual(videoToPatches(first, size, strides, 4));
});

test("frames come back exactly, without the border that fills no patch", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 2, max: 9 }),
      fc.integer({ min: 2, max: 9 }),
      fc.constantFrom(1, 2, 3),
      fc.nat(1000),
      (frames, height, width, patch, salt) => {
        if (height < patch || width < patch) return;
        const data = Uint8Array.from({ length: frames * height * width * 3 }, (_, i) => (i * 37 + salt * 11) % 256);
        const back = patchesToFrames(
          framesToPatches({ data, frames, height, width }, patch),
          { frames, height, width },
          patch,
        );
        expect([back.height, back.width]).toEqual([height - (height % patch), width - (width % patch)]);
        for (let t = 0; t < frames; t++)
          for (let y = 0; y < back.height; y++) {
            const row = (t * height + y) * width * 3;
            const backRow = (t * back.height + y) * back.width * 3;
            expect(back.data.subarray(backRow, backRow + back.width * 3)).toEqual(
              data.subarray(row, row + back.width * 3),
            );
          }
      },
    ),
  );
});

test("what a model makes is clamped and rounded", () => {
  const values = [-9, -0.5, -0.5 + 0.4 / 255, -0.5 + 0.6 / 255, 0, 0.5, 9, NaN, -Infinity, Infinity];
  const bytes = values.map(
    (value) => patchesToFrames(new Float32Array(3).fill(value), { frames: 1, height: 1, width: 1 }, 1).data[0],
  );
  expect(bytes).toEqual([0, 0, 0, 1, 128, 255, 255, 0, 0, 255]);
});

test("a batch is filled at the sample's own place", () => {
  const video = movingSquare({ frames: 1, height: 4, width: 4 });
  const target = new Float32Array(3 * 48);
  framesToPatches(video, 4, target, 48);
  expect(target.subarray(0, 48).every((value) => value === 0)).toBe(true);
  expect(target.subarray(48, 96)).toEqual(framesToPatches(video, 4));
  expect(target.subarray(96).every((value) => value === 0)).toBe(true);
});
