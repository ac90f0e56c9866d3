/** China's 34 provinces at about their places, one tile each: [code, column, row]. */
export const TILES: [code: string, x: number, y: number][] = [
  ["HL", 8, 0],
  ["NM", 6, 1],
  ["JL", 8, 1],
  ["XJ", 0, 2],
  ["GS", 2, 2],
  ["NX", 3, 2],
  ["HE", 5, 2],
  ["BJ", 6, 2],
  ["TJ", 7, 2],
  ["LN", 8, 2],
  ["QH", 1, 3],
  ["SN", 3, 3],
  ["SX", 4, 3],
  ["HA", 5, 3],
  ["SD", 6, 3],
  ["XZ", 0, 4],
  ["SC", 2, 4],
  ["CQ", 3, 4],
  ["HB", 4, 4],
  ["AH", 5, 4],
  ["JS", 6, 4],
  ["SH", 7, 4],
  ["YN", 1, 5],
  ["GZ", 2, 5],
  ["HN", 4, 5],
  ["JX", 5, 5],
  ["ZJ", 6, 5],
  ["GX", 2, 6],
  ["GD", 4, 6],
  ["FJ", 5, 6],
  ["TW", 7, 6],
  ["HI", 2, 7],
  ["MO", 3, 7],
  ["HK", 4, 7],
];
export const COLUMNS = 9;

/** One character on a tile, as on a number plate. */
export const SHORT_ZH: Record<string, string> = {
  HL: "黑", NM: "蒙", JL: "吉", XJ: "新", GS: "甘", NX: "宁", HE: "冀", BJ: "京", TJ: "津",
  LN: "辽", QH: "青", SN: "陕", SX: "晋", HA: "豫", SD: "鲁", XZ: "藏", SC: "川", CQ: "渝",
  HB: "鄂", AH: "皖", JS: "苏", SH: "沪", YN: "云", GZ: "贵", HN: "湘", JX: "赣", ZJ: "浙",
  GX: "桂", GD: "粤", FJ: "闽", TW: "台", HI: "琼", MO: "澳", HK: "港",
}; // prettier-ignore

/** From where on a delivery rate is of which step, the best first. */
export const RATES = [0.99, 0.97, 0.94, 0.9, 0];
