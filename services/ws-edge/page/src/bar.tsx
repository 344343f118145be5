// A value between 0 and 100, as a bar.

export function Bar({ name, value }: { name: string; value: number }) {
  const shown = Math.max(0, Math.min(100, Number(value) || 0));
  return (
    <span class="meter" role="meter" aria-label={name} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(shown)}>
      <i style={{ width: `${shown}%` }} />
    </span>
  );
}
