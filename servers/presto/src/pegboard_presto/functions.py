"""The functions a query may use, by the engine's own names, which is how they look after translation.

Left out on purpose, besides all that reads files, settings or the catalog: what makes a large value of a small one
(`repeat`, `lpad`, `generate_series`, …), because the engine's memory limit does not see inside one value; and what
compares every letter with every other (`levenshtein`, …), because nothing stops the engine inside one value either:
of two texts of a megabyte it would be busy for an hour after its caller has gone.
"""


def _words(text: str) -> list[str]:
    return text.split()


_OPERATORS = _words("""
+ - * / // % ** ^ & | ~ << >> || @ ! ~~ !~~ ~~* !~~* ~~~ -> ->> ^@
""")

_AGGREGATES = _words("""
any_value approx_count_distinct approx_quantile arg_max arg_min array_agg avg bit_and bit_or bit_xor bool_and bool_or
corr count count_if count_star covar_pop covar_samp favg first fsum geomean geometric_mean group_concat grouping
grouping_id histogram kurtosis last list listagg mad max max_by mean median min min_by mode product quantile
quantile_cont quantile_disc regr_avgx regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy
regr_syy skewness stddev stddev_pop stddev_samp string_agg sum sum_no_overflow var_pop var_samp variance
""")

_WINDOWS = _words("""
cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank rank_dense row_number
""")

_NUMBERS = _words("""
abs acos acosh asin asinh atan atan2 atanh bit_count cbrt ceil ceiling cos cosh cot degrees divide even exp
factorial fdiv floor fmod gamma gcd greatest greatest_common_divisor isfinite isinf isnan lcm least
least_common_multiple lgamma
ln log log10 log2 mod multiply nextafter pi pow power radians random round sign signbit sin sinh sqrt subtract
tan tanh trunc add xor
""")

_TEXT = _words("""
array_extract ascii base64 bit_length char_length character_length chr concat concat_ws contains ends_with
format_bytes from_base64 from_hex hamming hash hex instr jaccard lcase left length like_escape lower ltrim md5
nfc_normalize not_like_escape ilike_escape not_ilike_escape ord parse_filename position prefix regexp_escape
regexp_extract regexp_extract_all regexp_full_match regexp_matches regexp_replace regexp_split_to_array replace
reverse right rtrim sha1 sha256 split split_part starts_with str_split str_split_regex string_split string_split_regex
string_to_array strip_accents strlen strpos substr substring suffix to_base64 to_hex translate trim ucase unhex
unicode upper url_decode url_encode encode decode
""")

_TIMES = _words("""
age current_date current_timestamp get_current_time get_current_timestamp now today transaction_timestamp
current_time localtime current_localtime current_localtimestamp localtimestamp
century date_add date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth
dayofweek dayofyear decade epoch epoch_ms epoch_ns epoch_us era hour isodow isoyear julian last_day make_date
make_time make_timestamp microsecond millennium millisecond minute month monthname nanosecond quarter second
strftime strptime time_bucket to_days to_hours to_microseconds to_milliseconds to_minutes to_months to_quarters
to_seconds to_timestamp to_weeks to_years try_strptime week weekday weekofyear year yearweek
""")

_VALUES = _words("""
alias cardinality case coalesce constant_or_null if ifnull nullif typeof error
array_length array_contains array_has array_has_all array_has_any array_position array_slice array_sort array_unique
array_value array_to_string element_at filter flatten len list_aggregate list_aggr list_any_value list_avg
list_concat list_contains list_count list_distinct list_element list_extract list_filter list_first list_has
list_has_all list_has_any list_indexof list_intersect list_last list_max list_median list_min list_mode list_position
list_reduce list_reverse list_reverse_sort list_select list_slice list_sort list_sum list_transform list_unique
list_value list_where array_filter array_transform array_reduce array_concat array_cat array_distinct array_reverse
array_intersect array_reverse_sort array_append array_prepend list_append list_prepend
map map_contains map_entries map_extract map_extract_value map_from_entries map_keys map_values row struct_extract
struct_pack struct_insert unnest
json_array_length json_exists json_extract json_extract_path json_extract_path_text json_extract_string json_keys
json_type json_valid to_json json
""")

FUNCTIONS = frozenset(
    [*_OPERATORS, *_AGGREGATES, *_WINDOWS, *_NUMBERS, *_TEXT, *_TIMES, *_VALUES],
)
