# cmake -DFILE=... -DINCLUDE=... -DCOMPILERS=a|b -P check.cmake: FILE compiles without a warning.
string(REPLACE "|" ";" COMPILERS "${COMPILERS}")
foreach(compiler IN LISTS COMPILERS)
  execute_process(COMMAND "${compiler}" -std=c++20 -fsyntax-only -Wall -Wextra -Wpedantic -Wshadow
                          -Wconversion -Wsign-conversion -Werror "-I${INCLUDE}" "${FILE}"
                  RESULT_VARIABLE status)
  if(NOT status EQUAL 0)
    message(SEND_ERROR "${compiler} does not compile this header by itself")
  endif()
endforeach()
