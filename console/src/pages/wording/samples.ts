/** Values that show what a variable may be, what a variable of a name probably is, and texts to begin with. */
import type { Shapes } from "../../api/client";

export type Rules = Record<string, { kind: string; max: number }>;
type Purpose = Shapes["Purpose"];

const SAMPLES: Record<string, [zh: string, other: string]> = {
  code: ["483920", "483920"],
  code_alphanumeric: ["7K3M9Q", "7K3M9Q"],
  code_long: ["48392017", "48392017"],
  code_long_alphanumeric: ["7K3M9QXT", "7K3M9QXT"],
  minutes: ["5", "5"],
  time: ["12月25日 10:30", "2026-12-25 10:30"],
  date: ["2026-12-25", "25/12/2026"],
  money: ["1,299.00", "1,299.00"],
  nickname: ["小雁", "Robin"],
  name: ["王小雁", "王小雁"],
  organisation: ["鸿雁商城", "Hongyan Store"],
  address: ["北京市朝阳区望京街10号", "10 High Street"],
  licence_plate: ["京A·12345", "AB12 CDE"],
  tracking_number: ["SF1234567890", "SF1234567890"],
  pick_up_code: ["3-2-1015", "3-2-1015"],
  number: ["20250001", "20250001"],
  phone: ["400-800-1234", "0800-123456"],
  link_part: ["aB3x9Z", "aB3x9Z"],
  email: ["hi@example.com", "hi@example.com"],
  url: ["https://example.com/a", "https://example.com/a"],
  other: ["示例内容", "a sample"],
  text: ["一段示例文字", "some sample wording"],
};

export function sampleOf(kind: string, language: string, max = 0): string {
  const pair = SAMPLES[kind] ?? SAMPLES["other"]!;
  const sample = pair[language.startsWith("zh") ? 0 : 1];
  return max ? [...sample].slice(0, max).join("") : sample;
}

const NAMES: [RegExp, string][] = [
  [/pick.?up|fetch/i, "pick_up_code"],
  [/track|express|waybill|parcel/i, "tracking_number"],
  [/code|captcha|otp|pin$/i, "code"],
  [/minute|^mins?$/i, "minutes"],
  [/time|hour|moment/i, "time"],
  [/date|^day$|birthday/i, "date"],
  [/amount|price|money|balance|fee|sum|total|cost/i, "money"],
  [/nick/i, "nickname"],
  [/company|shop|store|brand|organi[sz]ation|hospital|bank/i, "organisation"],
  [/name|user|customer|patient/i, "nickname"],
  [/address|place|station|where/i, "address"],
  [/plate/i, "licence_plate"],
  [/phone|tel$|telephone|mobile|hotline/i, "phone"],
  [/link|short|path|slug/i, "link_part"],
  [/mail/i, "email"],
  [/^url$/i, "url"],
  [/number|order|^no$|_no$|id$|serial/i, "number"],
];

/** The kind a variable has until somebody says another. */
export function kindFor(name: string, purpose: Purpose): string {
  if (purpose === "otp" && /code|captcha|otp|pin|verif/i.test(name)) return "code";
  return NAMES.find(([form]) => form.test(name))?.[1] ?? "other";
}

/** The rules of the variables that stand in a text, in their order; the same text and rules are always written alike. */
export function rulesOf(names: string[], rules: Rules, purpose: Purpose, remembered: Rules = {}): Rules {
  const settled: Rules = {};
  for (const name of names) {
    const { kind, max } = rules[name] ?? remembered[name] ?? { kind: kindFor(name, purpose), max: 0 };
    settled[name] = { kind, max };
  }
  return settled;
}

export interface Start {
  body: string;
  rules: Rules;
}

const kinds = (of: Record<string, string>): Rules =>
  Object.fromEntries(Object.entries(of).map(([name, kind]) => [name, { kind, max: 0 }]));

/** Texts to begin with: sound ones of each purpose, in Chinese and English. */
export const STARTS: Record<Purpose, Record<"zh" | "en", Start[]>> = {
  otp: {
    zh: [
      { body: "您的验证码为${code}，5分钟内有效，用于登录，请勿告诉他人。", rules: kinds({ code: "code" }) },
      {
        body: "您正在修改密码，验证码${code}，${minutes}分钟内有效。",
        rules: kinds({ code: "code", minutes: "minutes" }),
      },
    ],
    en: [
      {
        body: "Your sign-in code is ${code}. It is valid for 5 minutes. Never share it.",
        rules: kinds({ code: "code" }),
      },
    ],
  },
  transactional: {
    zh: [
      {
        body: "您的订单${order}已发货，预计${day}送达。",
        rules: kinds({ order: "number", day: "date" }),
      },
      {
        body: "您的快递${number}已到${place}，请凭取件码${pick}取件。",
        rules: kinds({ number: "tracking_number", place: "address", pick: "pick_up_code" }),
      },
      {
        body: "${name}您好，您预约的时间为${time}，请准时到达。",
        rules: kinds({ name: "nickname", time: "time" }),
      },
    ],
    en: [
      {
        body: "Your order ${order} has left us and should arrive on ${day}.",
        rules: kinds({ order: "number", day: "date" }),
      },
    ],
  },
  promotional: {
    zh: [
      { body: "会员日到店消费满${amount}元即享好礼，拒收请回复R", rules: kinds({ amount: "money" }) },
      { body: "新品上市，到店即可试用，拒收请回复R", rules: {} },
    ],
    en: [{ body: "New arrivals are in our stores this week. Reply STOP to opt out", rules: {} }],
  },
};
