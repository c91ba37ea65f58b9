/** Affines: rows of numbers that take voxel indices to mm (RAS+). */

export type Point = [number, number, number];

export function apply(affine: number[][], [x, y, z]: Point): Point {
  return [0, 1, 2].map(
    (row) => affine[row][0] * x + affine[row][1] * y + affine[row][2] * z + affine[row][3],
  ) as Point;
}

export function inverse(affine: number[][]): number[][] {
  const [[a, b, c], [d, e, f], [g, h, i]] = affine;
  const determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g);
  const rows = [
    [e * i - f * h, c * h - b * i, b * f - c * e],
    [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d],
  ].map((row) => row.map((value) => value / determinant));
  const t = affine.slice(0, 3).map((row) => row[3]);
  return rows.map((row) => [...row, -(row[0] * t[0] + row[1] * t[1] + row[2] * t[2])]);
}

/** The letter of the patient's side towards which a step in mm (RAS+) mostly goes. */
export function letter(step: Point): string {
  const size = step.map(Math.abs);
  const axis = size.indexOf(Math.max(...size));
  return (step[axis] > 0 ? "RAS" : "LPI")[axis];
}

/** mm (RAS+) as a reader of images writes them: R 12.3 A 4.5 S 6.7. */
export function places(mm: Point): string {
  return mm
    .map((value, axis) => `${(value >= 0 ? "RAS" : "LPI")[axis]} ${Math.abs(value).toFixed(1)}`)
    .join("  ");
}
