# cmake -DBUILD=... -DPREFIX=... -P install.cmake
# Installs to one place and moves it to another: a path that an installed file remembers is found out.
file(REMOVE_RECURSE "${PREFIX}" "${PREFIX}.before_move")
execute_process(COMMAND "${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${PREFIX}.before_move"
                OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
file(RENAME "${PREFIX}.before_move" "${PREFIX}")
