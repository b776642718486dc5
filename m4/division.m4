# Compiler probes of this package. Each flag is tried alone, with -Werror, so that a compiler that
# merely warns about a flag it does not know counts as refusing it.

# DIVISION_TRY_FLAG(FLAG, IF-TAKEN, [IF-REFUSED])
AC_DEFUN([DIVISION_TRY_FLAG], [
  division_saved_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS $1 -Werror"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([[extern int dummy;]], [[(void)0;]])],
    [division_flag_ok=yes], [division_flag_ok=no])
  CFLAGS=$division_saved_CFLAGS
  AS_IF([test "$division_flag_ok" = yes], [$2], [$3])
])

# DIVISION_PROBE_FLAGS(VARIABLE, FLAGS): VARIABLE becomes those of FLAGS that the compiler takes.
AC_DEFUN([DIVISION_PROBE_FLAGS], [
  AC_MSG_CHECKING([for flags of $1])
  $1=
  for division_flag in $2; do
    # gcc takes any -Wno-NAME in silence: ask for the positive form instead.
    AS_CASE([$division_flag],
      [-Wno-*], [division_try=-W${division_flag@%:@-Wno-}],
      [division_try=$division_flag])
    DIVISION_TRY_FLAG([$division_try], [$1="[$]$1 $division_flag"])
  done
  AC_MSG_RESULT([[$]$1])
  AC_SUBST([$1])
])

# DIVISION_NEED_FLAGS(FLAGS, WHAT): an error unless the compiler takes and links with FLAGS.
AC_DEFUN([DIVISION_NEED_FLAGS], [
  division_saved_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS $1"
  AC_LINK_IFELSE([AC_LANG_PROGRAM([[]], [[return 0;]])], [],
    [AC_MSG_ERROR([$2: the compiler ($CC) cannot link with $1])])
  CFLAGS=$division_saved_CFLAGS
])
