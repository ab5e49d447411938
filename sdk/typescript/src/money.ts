/** Money: an amount in the minor units of its currency, ISO 4217. */

// The currencies whose minor unit is not a hundredth.
const DIGITS: Record<string, number> = { CLF: 4, UYW: 4 };
for (const code of "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF".split(" ")) DIGITS[code] = 0;
for (const code of "BHD IQD JOD KWD LYD OMR TND".split(" ")) DIGITS[code] = 3;

export interface Money {
  readonly amount: number;
  readonly currency: string;
}

/** Digits after the point of amounts in a currency. */
export function exponent(currency: string): number {
  return DIGITS[currency] ?? 2;
}

/** For people, in the words of `locale`: `formatMoney(payment)` is `€19.00`. */
export function formatMoney({ amount, currency }: Money, locale?: string): string {
  const digits = exponent(currency);
  const options = { style: "currency", currency, minimumFractionDigits: digits, maximumFractionDigits: digits } as const;
  return new Intl.NumberFormat(locale, options).format(amount / 10 ** digits);
}
